"""Layers with Keras's constructor names: a class per concept, for any number of spatial axes and for one to three."""

from __future__ import annotations

from numbaconv.layers.activations import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from numbaconv.layers.base import Layer
from numbaconv.layers.conv import Conv, Conv1D, Conv2D, Conv3D
from numbaconv.layers.conv_transpose import Conv1DTranspose, Conv2DTranspose, Conv3DTranspose, ConvTranspose
from numbaconv.layers.dense import Dense
from numbaconv.layers.depthwise_conv import (
    DepthwiseConv,
    DepthwiseConv1D,
    DepthwiseConv2D,
    DepthwiseConv3D,
    SeparableConv,
    SeparableConv1D,
    SeparableConv2D,
    SeparableConv3D,
)
from numbaconv.layers.dropout import Dropout
from numbaconv.layers.input import Input
from numbaconv.layers.merging import Add, Concatenate
from numbaconv.layers.normalization import BatchNormalization, LayerNormalization
from numbaconv.layers.parameter import Parameter
from numbaconv.layers.pooling import (
    AveragePooling,
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    GlobalAveragePooling,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPooling,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from numbaconv.layers.reshaping import (
    Flatten,
    UpSampling,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)

# Keras's second names of the pooling layers.
MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D = (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
)

__all__ = [
    "ELU",
    "Activation",
    "Add",
    "AveragePooling",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNormalization",
    "Concatenate",
    "Conv",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "ConvTranspose",
    "Dense",
    "DepthwiseConv",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "DepthwiseConv3D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "Input",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "PReLU",
    "Parameter",
    "ReLU",
    "SeparableConv",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConv3D",
    "Softmax",
    "UpSampling",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]
