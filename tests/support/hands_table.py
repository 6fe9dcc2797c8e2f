"""The photos of hands as a table with a column for the student: `python -m tests.support.hands_table HANDS TARGET`.

HANDS has a folder for each digit. A student showed the digits in order, one photo each, and the numbers of the files go
on from student to student: a new one begins where the digit does not rise.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
from pathlib import Path


def students_of(digits: list[int]) -> list[int]:
    """Return the number of the student of each photo, from their digits in the order in which they were taken.

    >>> students_of([0, 1, 2, 0, 2, 1])
    [0, 0, 0, 1, 1, 2]
    """
    found: list[int] = []
    for place, digit in enumerate(digits):
        is_next = place > 0 and digit <= digits[place - 1]
        found.append(0 if place == 0 else found[-1] + is_next)
    return found


def write_table(hands: Path, target: Path) -> Path:
    """Copy the photos to a folder, and write `labels.csv` beside them; returns its path."""
    photos = sorted(hands.glob("[0-9]/*.JPG"), key=lambda photo: int(re.sub(r"\D", "", photo.stem)))
    students = students_of([int(photo.parent.name) for photo in photos])
    table = target / "labels.csv"
    target.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "student"])
        for photo, student in zip(photos, students, strict=True):
            copy = target / photo.relative_to(hands)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(photo, copy)
            writer.writerow([photo.relative_to(hands).as_posix(), photo.parent.name, f"s{student:03d}"])
    return table


if __name__ == "__main__":
    sys.stdout.write(f"{write_table(Path(sys.argv[1]), Path(sys.argv[2]))}\n")
