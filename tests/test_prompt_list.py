"""A CSV of prompts, and the pictures that are drawn of it: the form that evaluators read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from erase_engine.prompt_list import (
    HIGHEST,
    RECORD,
    Case,
    pictures_of,
    read_cases,
    save_picture,
    still_to_draw,
)

FIELD = 'case_number,prompt,evaluation_seed,classes\n3,"a cat, asleep",7,cat\n9,a dog,8,dog\n'


def test_the_fields_own_form_is_read():
    assert read_cases(FIELD) == [Case(3, "a cat, asleep", 7), Case(9, "a dog", 8)]
    shuffled = "\ufeff,evaluation_seed, prompt ,case_number\r\n0,7,a cat,3\r\n\r\n1,8,猫,9\r\n"
    assert read_cases(shuffled) == [Case(3, "a cat", 7), Case(9, "猫", 8)]


def test_numbers_and_seeds_may_be_left_out():
    assert read_cases("prompt\na cat\na dog") == [Case(0, "a cat", 0), Case(1, "a dog", 1)]
    assert read_cases("case_number,prompt\n5,a cat\n") == [Case(5, "a cat", 5)]


WRONG = [
    ("", r"begins with '', expected a CSV with the column prompt in its first line\. Write"),
    ("a cat\na dog\n", r"begins with 'a cat', expected a CSV with the column prompt"),
    ("prompt\n", r"Got a prompt list without rows"),
    ("prompt\na\na cat, asleep\n", r"Got 2 fields in row 2 .*, expected 1, .* in double quotes"),
    ('prompt\n"a cat', r"that can't be read \(unexpected end of data\), expected a CSV\. Put"),
    ("prompt\n" + "a" * 200_000, r"that can't be read \(field larger than"),
    ("prompt,case_number\n ,1\n", r"Got the prompt '' in row 1 .*, expected words"),
    ("prompt\na\0cat\n", r"Got (the prompt 'a cat' in row 1|a prompt list that can't be read)"),
    (
        "prompt\na\x1b[31m cat\n",
        r"Got the prompt 'a \[31m cat' in row 1 .*, expected words without",
    ),
    ("prompt\n\x1fa cat\n", r"Got the prompt ' a cat' in row 1 .*, expected words without control"),
    ("prompt\na \ud800cat\n", r"Got the prompt 'a  cat' in row 1 .*, expected words without"),
    ("prompt,case_number\na,1\x1f\n", r"Got case_number '1 ' in row 1 .*, expected a whole"),
    ("prompt,prompt\na,b\n", r"Got a prompt list with the column prompt twice, .*Rename or"),
    ("prompt,case_number, case_number\na,1,2\n", r"with the column case_number twice, expected"),
    ("prompt,case_number\na,../1\n", r"Got case_number '\.\./1' in row 1 .*, expected a whole"),
    ("prompt,case_number\na,1\nb,01\n", r"Got the case_number 1 again in row 2"),
    ("prompt,evaluation_seed\na,-1\n", r"Got evaluation_seed '-1' in row 1"),
    (f"prompt,evaluation_seed\na,{HIGHEST + 1}\n", r"Got evaluation_seed '18446744073709551616'"),
    ("prompt,evaluation_seed\na,²\n", r"Got evaluation_seed '²'"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[repr(text[:20]) for text, _ in WRONG])
def test_wrong_lists_are_refused(text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_cases(text)
    assert len(str(error.value)) < 400


def test_pictures_are_called_as_evaluators_expect_and_have_seeds_in_a_row():
    found = pictures_of([Case(3, "a cat", 7), Case(9, "a dog", HIGHEST)], Path("out"), 2)
    assert [(one.path.name, one.prompt, one.seed) for one in found] == [
        *(("3_0.png", "a cat", 7), ("3_1.png", "a cat", 8)),
        *(("9_0.png", "a dog", HIGHEST), ("9_1.png", "a dog", 0)),
    ]


def test_what_is_there_is_left_out_unless_it_was_drawn_otherwise(tmp_path):
    settings = {"steps": 4, "lora": None}
    first, second = pictures_of(read_cases("prompt\na cat\na dog\n"), tmp_path / "new", 1)
    save_picture(first, Image.new("RGB", (8, 8)), settings)
    assert still_to_draw([first, second], settings) == [second]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["0_0.png"]
    others = [
        ([first], {**settings, "steps": 5}, r"0_0\.png, drawn with steps '4', expected"),
        ([first], {**settings, "lora": "a"}, r"0_0\.png, drawn with another lora, expected"),
        (pictures_of([Case(0, "a fox", 0)], tmp_path / "new", 1), settings, "prompt 'a cat'"),
        (pictures_of([Case(0, "a cat", 1)], tmp_path / "new", 1), settings, "seed '0'"),
    ]
    for pictures, changed, message in others:
        with pytest.raises(ValueError, match=message):
            still_to_draw(pictures, changed)
    for save in (lambda: Image.new("RGB", (8, 8)).save(second.path), second.path.touch):
        save()
        with pytest.raises(ValueError, match=r"1_0\.png, drawn with settings that it does not say"):
            still_to_draw([second], settings)
        second.path.unlink()


def test_abandoned_drafts_are_looked_for_once_a_run(tmp_path):
    """A folder of ten thousand pictures is not read anew for each of them."""
    [picture] = pictures = pictures_of([Case(0, "a cat", 0)], tmp_path, 1)
    draft = tmp_path / ".x.png.a.writing"
    for work, stays in (
        (lambda: still_to_draw(pictures, {}), False),
        (lambda: save_picture(picture, Image.new("RGB", (8, 8)), {}), True),
    ):
        draft.mkdir()
        os.utime(draft, (0, 0))
        work()
        assert draft.exists() == stays


def test_the_record_stands_in_the_picture(tmp_path):
    [picture] = pictures_of([Case(0, "猫", 5)], tmp_path, 1)
    save_picture(picture, Image.new("RGB", (8, 8), "red"), {"steps": 4})
    with Image.open(picture.path) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)
        assert image.info[RECORD] == '{"steps": 4, "prompt": "\\u732b", "seed": 5}'
