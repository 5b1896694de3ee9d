import importlib.metadata
import os
import sys

from tests import all_pythons

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
REPORT = """\
<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" /></testsuites>
"""


def write_program(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_a_python_is_found_in_pyenv_where_the_path_has_a_shim_that_fails(tmp_path, monkeypatch):
    write_program(tmp_path / "shims" / f"python{VERSION}", "exit 127")
    python = tmp_path / "pyenv" / "versions" / f"{VERSION}.9" / "bin" / f"python{VERSION}"
    write_program(python, f'exec "{sys.executable}" "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}{os.pathsep}/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert all_pythons.find(VERSION) == str(python)
    assert all_pythons.find("3.99") is None


def test_tests_are_counted_by_their_report(tmp_path):
    report = tmp_path / "report.xml"
    assert all_pythons.counts(report) == ("-", "no run", "-")
    report.write_text(REPORT)
    assert all_pythons.counts(report) == ("4", "3", "3")


# Stands for make: `--junit-xml` gets a report, of failures for 3.13.
MAKE = f"""
for argument in $*; do
  case $argument in
    VENV=*) folder=${{argument#VENV=}} ;;
    PYTHON=*3.13) report='<testsuite errors="0" failures="1" skipped="2" tests="8" />' ;;
    PYTHON=*) report='<testsuite errors="0" failures="0" skipped="2" tests="8" />' ;;
    --junit-xml=*) file=${{argument#--junit-xml=}} ;;
  esac
done
mkdir -p $folder/bin
printf '#!/bin/sh\\nexec "{sys.executable}" "$@"\\n' > $folder/bin/python
chmod +x $folder/bin/python
echo "$report" > $file
"""


def test_the_table_has_a_row_for_each_version_and_failures_are_told(tmp_path, monkeypatch, capsys):
    bin_folder = tmp_path / "bin"
    write_program(bin_folder / "make", MAKE)
    for version in ("3.12", "3.13"):
        write_program(bin_folder / f"python{version}", f"echo {version}")
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    monkeypatch.delenv("PYTEST_ARGS", raising=False)
    monkeypatch.setattr(all_pythons, "VERSIONS", ("3.12", "3.13", "3.99"))
    assert all_pythons.main() == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    version = importlib.metadata.version("jax")
    assert [line[:-1] for line in lines[1:]] == [
        ["3.12", version, "6", "0", "2"],
        ["3.13", version, "5", "1", "2"],
        ["3.99", "-", "-", "no", "Python", "-"],
    ]
    monkeypatch.setattr(all_pythons, "VERSIONS", ("3.12", "3.99"))
    assert all_pythons.main() == 0
