"""The results of a run so far, on disk after every step: an interrupted run goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FORMAT = 1


class State:
    """One JSON file; `data` holds tracks by side, and rounds by stage and case."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.data: dict[str, Any] = {"format": FORMAT, "settings": settings, "tracks": {}, "stages": {}, "failed": {}}
        self.resumed = False
        self.note = ""
        try:
            old = json.loads(path.read_text())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self.note = f"{path} cannot be read ({error}): starting anew"
            return
        if not isinstance(old, dict) or old.get("format") != FORMAT or old.get("settings") != settings:
            self.note = f"{path} is of a run with other settings: starting anew"
        elif not old.get("finished"):
            self.data = old
            self.resumed = bool(old["tracks"] or old["stages"])

    def rounds(self, stage: str, case: str) -> list[Any]:
        """Return the rounds of a case in a stage, to be read or appended to."""
        rounds: list[Any] = self.data["stages"].setdefault(stage, {}).setdefault(case, [])
        return rounds

    def save(self) -> None:
        """Replace the file as a whole: whenever the process ends, a complete one is there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        aside.write_text(json.dumps(self.data))
        os.replace(aside, self.path)

    def finish(self) -> None:
        """Mark the run as complete, so that the next start measures anew."""
        self.data["finished"] = True
        self.save()
