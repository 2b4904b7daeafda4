import subprocess
import sys
from pathlib import Path

import fencelock
from fencelock._fitness import ACL_BETTER, ACL_KINDS, ACL_LINE


def test_the_public_names_are_sorted_and_complete() -> None:
    assert fencelock.__all__ == sorted(fencelock.__all__)
    public = {
        name
        for name, value in vars(fencelock).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("fencelock.")
    }
    assert public == set(fencelock.__all__)


def test_importing_does_not_load_the_optional_parts() -> None:
    program = (
        "import sys, fencelock; "
        "assert not {'prometheus_client', 'fencelock.contrib.otel'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_readme_names_the_rights_that_are_tried() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert ACL_LINE in readme
    assert ACL_KINDS in readme
    assert ACL_BETTER in readme
