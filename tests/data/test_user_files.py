"""The one reader of each format, by hand: what is read, what is reported, and where."""

import os
import pwd

import pytest

from research.data import user_files
from research.util.errors import UserError

ODD = "a\u2028b\u0085c\x0bd\x0ce\x1cf\u2029g"  # what str.splitlines takes for seven lines more


def refused(message, function, *arguments):
    with pytest.raises(UserError) as caught:
        found = function(*arguments)
        list(found)
    assert message in str(caught.value) and "\n" not in str(caught.value), caught.value


# Texts


def test_a_text_is_whole_and_has_no_byte_order_mark(tmp_path):
    text = f"\r\n {ODD}\r\n\n\ufeffend"
    for before in ("", "\ufeff"):
        (tmp_path / "a.txt").write_bytes((before + text).encode())
        assert user_files.read(tmp_path / "a.txt") == user_files.text(tmp_path / "a.txt") == text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"caf\xe9", "not UTF-8 (byte 0xe9 at 3)"),
        (b"\xef\xbb\xbfcaf\xe9", "not UTF-8 (byte 0xe9 at 6)"),
        ("text".encode("utf-16"), "binary, or not UTF-8 (a zero byte at 3)"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_no_text(tmp_path, content, reason):
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(user_files.Unreadable) as caught:
        user_files.text(path)
    assert str(caught.value) == reason
    refused(f"cannot read {path} as UTF-8 text: {reason}", user_files.read, path)


def test_lines_end_at_line_feeds_alone():
    assert user_files.lines(f"{ODD}\r\n\nlast") == [ODD, "", "last"]
    assert user_files.lines("\n") == [""] and user_files.lines("") == [] and user_files.lines("a\n\n") == ["a", ""]
    text = f"{ODD}\r\n \n\nlast"
    assert "".join(user_files.lines_with_ends(text)) == text and len(user_files.lines_with_ends(text)) == 4


# Tables


def rows(path, delimiter=","):
    return [(row.first, row.last, row.cells) for row in user_files.records(path, delimiter)]


def test_a_csv_by_hand(tmp_path):
    (tmp_path / "a.csv").write_bytes(f'\ufeffx,{ODD}\r\n\n"1, ""2""\n3",5" disk\n'.encode())
    assert rows(tmp_path / "a.csv") == [(1, 1, ["x", ODD]), (3, 4, ['1, "2"\n3', '5" disk'])]


def test_quotation_marks_of_a_tsv_are_characters(tmp_path):
    (tmp_path / "a.tsv").write_text(f'"x\t{ODD}\n1" \t"2"\n')
    assert rows(tmp_path / "a.tsv", "\t") == [(1, 1, ['"x', ODD]), (2, 2, ['1" ', '"2"'])]


def test_quotation_marks_that_do_not_match_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\na,b\n"c,d\ne,f\n"g,h\n')
    refused(f"{path}, lines 3 and 5: a quotation mark", rows, path)
    path.write_text('text,label\n"a" b,c\n')
    refused(f"{path}, line 2: a quotation mark", rows, path)
    path.write_text('text,label\na,b\n"c,d\ne,f\n')
    refused(f'{path}, line 3: a quotation mark (") opens a cell here that is never closed', rows, path)


def table(path):
    return [tuple(row) for row in user_files.table(path, ",", ("a", "b"), "name them")]


def test_a_row_of_too_many_or_too_few_cells_is_a_fault(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("b,a\n1,2\n1,2,3\n1\n3,4\n")
    wrong = [("line 3", None, "3 cells under 2 names"), ("line 4", None, "1 cell under 2 names")]
    assert table(path) == [("line 2", {"b": "1", "a": "2"}, ""), *wrong, ("line 5", {"b": "3", "a": "4"}, "")]
    path.write_text("b,c\n1,2\n")
    refused(f"{path} has no column 'a' but b, c; name them", table, path)
    path.write_text("")
    refused("has no column 'a' but no first line", table, path)
    path.write_text("a,b,a\n1,2,3\n")
    refused(f"{path} has several columns 'a'", table, path)


# JSON


def test_lines_of_json():
    text = '{"a": "' + "x\u2028\u0085y" + '"}\r\n\n[1]\n{"a": 1, "a": 2}\n{"a"\n' + "[" * 100_000 + "\n"
    found = list(user_files.json_lines(text))
    assert [place for place, _ in found] == [f"line {i}" for i in (1, 3, 4, 5, 6)]
    assert found[0][1] == {"a": "x\u2028\u0085y"}
    assert found[1][1] == "no JSON object but '[1]'"
    assert found[2][1] == "not JSON (the key 'a' twice in one object)"
    assert found[3][1].startswith("not JSON (") and found[4][1] == "not JSON (nested too deeply)"


def test_a_json_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, null]}')
    assert user_files.json_value(path) == {"a": [1, None]}
    for text in ("{", "", '{"a": 1, "a": 2}', "[" * 100_000, "1" * 5000):
        path.write_text(text)
        refused(f"cannot read {path} as JSON", user_files.json_value, path)


# Folders


def test_links_are_followed_and_loops_are_not(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    (folder / "sub").mkdir(parents=True)
    (other / "deep").mkdir(parents=True)
    for path in (folder / "b.txt", folder / "sub" / "c.txt", other / "deep" / "d.txt", folder / ".hidden.txt"):
        path.write_text("x")
    (folder / "linked").symlink_to(other)
    (folder / "twice").symlink_to(other / "deep")
    (folder / "a.txt").symlink_to(other / "deep" / "d.txt")
    (other / "deep" / "up").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.txt")
    files, faults = user_files.listing(folder)
    names = [path.relative_to(folder).as_posix() for path in files]
    assert names == ["a.txt", "b.txt", "linked/deep/d.txt", "sub/c.txt", "twice/d.txt"]
    assert dict(fault.split(": ", 1) for fault in faults) == {
        "gone": "a link to nothing",
        "self": "Too many levels of symbolic links",
        "pipe.txt": "neither a file nor a folder",
        "linked/deep/up": "a link back to a folder that it is in",
        "twice/up": "a link back to a folder that it is in",
    }


def test_a_name_that_is_not_utf8_is_named(tmp_path):
    for name in (b"caf\xe9.txt", b"dir\xe9"):
        path = os.fsencode(tmp_path) + b"/" + name
        if name.endswith(b".txt"):
            open(path, "wb").close()
        else:
            os.mkdir(path)
    (tmp_path / "ok.txt").write_text("x")
    files, faults = user_files.listing(tmp_path)
    assert files == [tmp_path / "ok.txt"]
    assert faults == [f"{name}: its name is not UTF-8; rename it" for name in ("caf\udce9.txt", "dir\udce9")]


def test_a_folder_that_may_not_be_opened_is_named(tmp_path, monkeypatch):
    """The tests may run as root, who may open any: the refusal is made here."""
    (tmp_path / "shut").mkdir()
    (tmp_path / "ok.txt").write_text("x")
    listdir = os.listdir

    def refuse(folder):
        if str(folder).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    assert user_files.listing(tmp_path) == ([tmp_path / "ok.txt"], ["shut: Permission denied"])


def test_the_user_has_no_home(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    refused(
        "data.path = ~/a: this user has no home folder; write the whole path, or set HOME",
        user_files.root,
        {"path": "~/a", "source": "files"},
    )
