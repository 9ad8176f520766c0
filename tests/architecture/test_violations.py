"""Each contract reports a deliberate violation, alone and with its place, in a checkout that is clean otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from architecture.contracts import CONTRACTS, NOTES
from architecture.sources import Checkout

GUIDE = "`wallie_litellm/core/`, `wallie_litellm/config/`, `guard/`\n`wallie_litellm/clock.py`, `errors.py`\n"
CLEAN = {
    "CONTRIBUTING.md": GUIDE,
    "wallie_litellm/__init__.py": "from wallie_litellm.guard.api import call\n",
    "wallie_litellm/clock.py": '"""The clock."""\n\nimport time\n',
    "wallie_litellm/errors.py": '"""What is raised."""\n',
    "wallie_litellm/core/__init__.py": '"""The arithmetic.\n\n``demand``  what is asked\n``bucket``  a limit\n"""\n',
    "wallie_litellm/core/demand.py": "import math\n",
    "wallie_litellm/core/bucket.py": "from wallie_litellm.core import demand\n\n\nclass Bucket:\n    pass\n",
    "wallie_litellm/config/__init__.py": '"""The file.\n\n 1. ``models``  its sections\n"""\n',
    "wallie_litellm/config/models.py": "from wallie_litellm.core.bucket import Bucket\n",
    "wallie_litellm/guard/__init__.py": '"""The path.\n\n``api``    helpers\n``chain``  the groups\n"""\n',
    "wallie_litellm/guard/api.py": "import litellm\n\nfrom wallie_litellm.core import demand\n",
    "wallie_litellm/guard/chain.py": "from wallie_litellm.errors import WallieError\n",
    "wallie_litellm/guard/lua/script.lua": "local now = 0  -- seconds\n",
    "tests/core/test_bucket.py": "from wallie_litellm.core.bucket import Bucket\n",
    "tests/config/test_models.py": "",
    "tests/guard/test_api.py": "",
    "tests/browser/test_page.py": "",
    "tests/support.py": "",
    "tests/test_errors.py": "",
    "tests/test_public_api.py": "",
}


class Case(NamedTuple):
    """Files that are written over the clean checkout, and the reports that this leads to."""

    contract: str
    name: str
    files: dict[str, str]
    reports: list[str]


def module(contract: str, name: str, path: str, source: str, *reports: str) -> Case:
    """One file of the package with another content; the reports are ``line: message``."""
    return Case(
        contract, name, {f"wallie_litellm/{path}": source}, [f"wallie_litellm/{path}:{text}" for text in reports]
    )


UPWARDS = "1: imports wallie_litellm.guard.chain, which is above config"
ATTRIBUTES = [f"a{number}" for number in range(21)]
ASSIGNED = "".join(f"        self.{name} = 0\n" for name in ATTRIBUTES)
FIELDS = "".join(f"    {name}: int\n" for name in ATTRIBUTES)
DATACLASS = "from dataclasses import dataclass\n\n\n@dataclass\nclass Wide:\n" + FIELDS

PREFIXED = "".join(f"``cli_{letter}``   a command\n" for letter in "abcdefghi")
CYCLE = (
    "wallie_litellm.core.bucket -> wallie_litellm.core.demand, wallie_litellm.core.demand -> wallie_litellm.core.bucket"
)

CASES = [
    module("layers", "import_upwards", "config/models.py", "import wallie_litellm.guard.chain\n", UPWARDS),
    module(
        "layers",
        "typing_import_upwards",
        "config/models.py",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from wallie_litellm.guard.chain import Chain\n",
        UPWARDS.replace("1", "4", 1),
    ),
    module(
        "layers",
        "lazy_import_upwards",
        "config/models.py",
        "def late():\n    from wallie_litellm.guard import chain\n",
        UPWARDS.replace("1", "2", 1),
    ),
    module(
        "layers",
        "import_upwards_by_name",
        "config/models.py",
        'import importlib\n\nmodule = importlib.import_module("wallie_litellm.guard.chain")\n',
        UPWARDS.replace("1", "3", 1),
    ),
    module(
        "layers",
        "import_upwards_by_a_formatted_name",
        "config/models.py",
        'def late(name):\n    return import_module(f"wallie_litellm.guard.{name}")\n',
        "2: imports wallie_litellm.guard, which is above config",
    ),
    module(
        "layers",
        "relative_import_upwards",
        "config/models.py",
        "from ..guard.chain import Chain\n",
        UPWARDS,
    ),
    module(
        "layers",
        "import_within_a_row",
        "errors.py",
        "import wallie_litellm.core.demand\n",
        "1: imports wallie_litellm.core.demand, which is beside errors",
    ),
    module(
        "layers",
        "import_of_the_root",
        "config/models.py",
        "from wallie_litellm import call\n",
        "1: imports wallie_litellm, which is above config",
    ),
    Case(
        "layers",
        "package_without_a_layer",
        {
            "wallie_litellm/utils.py": "",
            "CONTRIBUTING.md": f"{GUIDE}`wallie_litellm/utils.py`\n",
        },
        ["wallie_litellm/utils.py:1: utils has no layer: give it a row in architecture.layers.LAYERS"],
    ),
    module(
        "no-cycles",
        "cycle_by_a_typing_import",
        "core/demand.py",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from wallie_litellm.core.bucket import Bucket\n",
    )._replace(reports=[f"wallie_litellm/core/bucket.py:1: import cycle: {CYCLE}"]),
    Case(
        "no-cycles",
        "cycle_of_a_package_with_a_module",
        {
            "wallie_litellm/guard/leased/__init__.py": '"""Leases.\n\n``lease``  one\n``terms``  its terms\n"""\n',
            "wallie_litellm/guard/leased/lease.py": "from wallie_litellm.guard import chain\n",
            "wallie_litellm/guard/leased/terms.py": "",
            "wallie_litellm/guard/chain.py": "from wallie_litellm.guard.leased import terms\n",
            "wallie_litellm/guard/__init__.py": '"""The path.\n\n``api``     a\n``chain``   b\n``leased``  c\n"""\n',
        },
        [
            "wallie_litellm/guard/chain.py:1: import cycle: wallie_litellm.guard.chain -> wallie_litellm.guard.leased, "
            "wallie_litellm.guard.leased -> wallie_litellm.guard.chain"
        ],
    ),
    module(
        "litellm-seam",
        "litellm_in_the_config",
        "config/models.py",
        "from litellm import Router\n",
        "1: imports litellm.Router when the module is imported: architecture.layers does not list it",
    ),
    module(
        "litellm-seam",
        "litellm_late_in_the_config",
        "config/models.py",
        "def late():\n    import litellm\n",
        "2: imports litellm when a function is called: architecture.layers does not list it",
    ),
    module(
        "litellm-subclass",
        "subclass_of_the_router",
        "guard/api.py",
        "import litellm\n\n\nclass Router(litellm.Router):\n    pass\n",
        "4: Router is a subclass of litellm.Router",
    ),
    module(
        "litellm-subclass",
        "subclass_of_the_imported_router",
        "guard/api.py",
        "from litellm.router import Router as Base\n\n\nclass Router(Base):\n    pass\n",
        "4: Router is a subclass of litellm.Router",
    ),
    module(
        "litellm-subclass",
        "subclass_by_a_call",
        "guard/api.py",
        'import litellm\n\nRouter = type("Router", (litellm.Router,), {})\n',
        "3: 'Router' is a subclass of litellm.Router",
    ),
    module(
        "litellm-private",
        "private_module_imported",
        "guard/api.py",
        "from litellm._service_logger import ServiceLogging\n",
        "1: uses litellm._service_logger.ServiceLogging, a private name of LiteLLM's",
    ),
    module(
        "litellm-private",
        "private_method_called",
        "guard/api.py",
        "import litellm\n\n\ndef pick(router: litellm.Router):\n    return router._get_client()\n",
        "5: uses _get_client, a private name of LiteLLM's",
    ),
    module(
        "litellm-private",
        "private_attribute_of_a_subclass_of_litellms",
        "guard/api.py",
        "from litellm.integrations.custom_logger import CustomLogger\n\n\n"
        "class Filter(CustomLogger):\n    def act(self):\n        return self._client\n",
        "6: uses _client, a private name of LiteLLM's",
    ),
    module(
        "litellm-private",
        "private_attribute_by_its_name",
        "guard/api.py",
        'import litellm\n\nnames = ("chunks", "_wrapper")\n',
        "3: uses _wrapper, a private name of LiteLLM's",
    ),
    module(
        "litellm-writes",
        "setting_assigned",
        "guard/api.py",
        "import litellm\n\nbefore, litellm.num_retries = litellm.num_retries, 0\n",
        "3: writes litellm.num_retries: architecture.litellm_use does not list it for guard.api",
    ),
    module(
        "litellm-writes",
        "setting_assigned_by_its_name",
        "guard/api.py",
        'import litellm\n\nsetattr(litellm, "num_retries", 0)\n',
        "3: writes litellm.num_retries: architecture.litellm_use does not list it for guard.api",
    ),
    module(
        "litellm-writes",
        "callback_added",
        "guard/api.py",
        "import litellm as llm\n\nllm.callbacks.append(print)\n",
        "3: writes litellm.callbacks: architecture.litellm_use does not list it for guard.api",
    ),
    module(
        "litellm-writes",
        "callback_removed_by_litellms_manager",
        "guard/api.py",
        "import litellm\n\nlitellm.logging_callback_manager.remove_callback_from_all_lists(print)\n",
        "3: writes litellm.logging_callback_manager: architecture.litellm_use does not list it for guard.api",
    ),
    module(
        "litellm-writes",
        "price_map_changed",
        "guard/api.py",
        'from litellm import model_cost\n\nmodel_cost["m"] = {}\n',
        "3: writes litellm.model_cost: architecture.litellm_use does not list it for guard.api",
    ),
    module(
        "litellm-writes",
        "module_found_by_its_name",
        "guard/api.py",
        'import sys\n\nimport litellm\n\nserver = sys.modules.get("litellm.proxy.proxy_server")\n'
        "server.shutdown = print\n",
        "6: writes litellm.proxy.proxy_server.shutdown: architecture.litellm_use does not list it for guard.api",
    ),
    module(
        "core-imports", "third_party_in_the_core", "core/demand.py", "import yaml\n", "1: imports yaml: core is pure"
    ),
    module(
        "core-imports",
        "threads_in_the_core",
        "core/demand.py",
        "import threading\n",
        "1: imports threading: core is pure",
    ),
    module(
        "core-computes",
        "coroutine_in_the_core",
        "core/demand.py",
        "async def ask() -> None:\n    pass\n",
        "1: awaits: core is pure",
    ),
    module(
        "core-computes",
        "clock_in_the_core",
        "core/demand.py",
        "from datetime import datetime\n\nnow = datetime.now()\n",
        "3: datetime.now reads a clock: core is pure",
    ),
    module("file-length", "file_of_501_lines", "config/models.py", "\n" * 501, "501: 501 lines: at most 500"),
    module(
        "attribute-count",
        "init_with_21_attributes",
        "config/models.py",
        f"class Wide:\n    def __init__(self) -> None:\n{ASSIGNED}",
        "1: Wide sets 21 attributes: at most 20",
    ),
    module(
        "attribute-count",
        "dataclass_with_21_fields_and_a_method",
        "config/models.py",
        f"{DATACLASS}\n    def act(self) -> None: ...\n",
        "5: Wide sets 21 attributes: at most 20",
    ),
    Case(
        "prefixes",
        "nine_modules_with_one_prefix",
        {
            **{f"wallie_litellm/config/cli_{letter}.py": "" for letter in "abcdefghi"},
            "wallie_litellm/config/__init__.py": f'"""The file.\n\n``models``  its sections\n{PREFIXED}"""\n',
        },
        ["wallie_litellm/config/cli_a.py:1: 9 modules here begin with cli: at most 8"],
    ),
    module(
        "class-names",
        "class_name_twice",
        "guard/chain.py",
        "class Bucket:\n    pass\n",
        "1: class Bucket is defined in wallie_litellm/core/bucket.py:4 too",
    ),
    Case(
        "package-maps",
        "module_without_an_entry",
        {"wallie_litellm/core/cost.py": ""},
        ["wallie_litellm/core/cost.py:1: is not named in the map of wallie_litellm/core/__init__.py"],
    ),
    module(
        "package-maps",
        "entry_without_a_module",
        "config/__init__.py",
        '"""The file.\n\n``models``  its sections\n``values``  their kinds\n"""\n',
        "1: names values, which is no module of wallie_litellm.config",
    ),
    Case(
        "guide",
        "module_that_the_guide_does_not_name",
        {"wallie_litellm/events.py": ""},
        ["wallie_litellm/events.py:1: is not named in CONTRIBUTING.md"],
    ),
    Case(
        "guide",
        "path_that_does_not_exist",
        {"CONTRIBUTING.md": f"{GUIDE}`tests/fleet/`\n"},
        ["CONTRIBUTING.md:3: names tests/fleet/, which does not exist"],
    ),
    Case(
        "tests-mirror-packages",
        "folder_of_tests_without_a_package",
        {"tests/stores/test_redis.py": ""},
        [
            "tests/stores/test_redis.py:1: tests/stores has no package wallie_litellm/stores and is not listed in "
            "architecture.maps"
        ],
    ),
    Case(
        "tests-mirror-packages",
        "test_outside_the_folders",
        {"tests/test_bucket.py": ""},
        ["tests/test_bucket.py:1: is in no package's folder"],
    ),
    Case(
        "tests-mirror-packages",
        "package_without_tests",
        {
            "wallie_litellm/ledger/__init__.py": "",
            "CONTRIBUTING.md": f"{GUIDE}`wallie_litellm/ledger/`\n",
        },
        ["wallie_litellm/ledger/__init__.py:1: has no tests in tests/ledger"],
    ),
    module(
        "persons",
        "person_in_a_comment",
        "config/models.py",
        "limit = 1  # whoever asks first\n",
        '1: "whoever" in a comment or docstring',
    ),
    Case(
        "persons",
        "words_on_two_lines_of_a_docstring",
        {"tests/core/test_bucket.py": '"""Limits.\n\nWhat a bucket is\ntold.\n"""\n'},
        ['tests/core/test_bucket.py:3: "is told" in a comment or docstring'],
    ),
    module(
        "persons",
        "words_on_two_lines_of_comments",
        "config/models.py",
        "a = 1\n# Seen by no\n# one.\n",
        '2: "no one" in a comment or docstring',
    ),
    Case(
        "persons",
        "person_in_a_test",
        {"tests/core/test_bucket.py": '"""Nobody waits."""\n'},
        ['tests/core/test_bucket.py:1: "Nobody" in a comment or docstring'],
    ),
    module(
        "metaphors",
        "metaphor_in_a_docstring",
        "config/models.py",
        '"""The lender\'s terms."""\n',
        '1: "lender" in a comment or docstring',
    ),
    module(
        "metaphors",
        "metaphor_in_a_class_name",
        "config/models.py",
        "class PurseView:\n    pass\n",
        "1: the name PurseView has the word purse",
    ),
    Case(
        "metaphors",
        "metaphor_in_a_name_of_a_test",
        {"tests/core/test_bucket.py": "def every_door() -> None: ...\n"},
        ["tests/core/test_bucket.py:1: the name every_door has the word door"],
    ),
    Case(
        "lua",
        "person_and_metaphor_in_lua",
        {"wallie_litellm/guard/lua/script.lua": "local lent = 0  -- to nobody\n"},
        [
            'wallie_litellm/guard/lua/script.lua:1: "nobody" in a comment',
            "wallie_litellm/guard/lua/script.lua:1: has the word lent",
        ],
    ),
    module("constants", "constant_without_final", "config/models.py", "LIMIT = 1\n", "1: LIMIT is not Final"),
    module(
        "constants",
        "comment_above_a_constant",
        "config/models.py",
        "#: requests\nLIMIT: Final = 1\n",
        "1: #: explains a constant: write it at the end of the line",
    ),
    module(
        "constants",
        "string_below_a_constant",
        "config/models.py",
        'LIMIT: Final = 1\n"""Requests."""\n',
        "2: a string explains a constant: write it at the end of the line",
    ),
    module(
        "dialect",
        "single_backticks",
        "config/models.py",
        '"""Limits.\n\nSee `rpm`.\n"""\n',
        "3: `rpm` in single backticks",
    ),
    module("asserts", "assertion", "config/models.py", "assert limit is not None\n", "1: assert"),
    module(
        "doubtful-words",
        "pronoun_of_persons",
        "config/models.py",
        '"""For a sink, who sends it."""\n',
        '1: "who" in a comment or docstring',
    ),
]
# What looks like a violation and is none.
ALLOWED = {
    "value_of_21_fields": {"wallie_litellm/config/models.py": DATACLASS},
    "named_tuple_of_21_fields": {"wallie_litellm/config/models.py": f"class Wide(NamedTuple):\n{FIELDS}"},
    "words_in_a_string": {"wallie_litellm/config/models.py": 'text = f("nobody lends")\n'},
    "words_that_contain_others": {"wallie_litellm/config/models.py": "outdoors = 1  # indoor, silent\n"},
    "litellm_for_type_checkers_of_a_listed_module": {
        "wallie_litellm/guard/api.py": "if TYPE_CHECKING:\n    import litellm\n"
    },
    "private_names_of_the_packages_own": {
        "wallie_litellm/guard/api.py": "from litellm.integrations.custom_logger import CustomLogger\n\n\n"
        "class Filter(CustomLogger):\n    def __init__(self):\n        self._seen = 0\n\n"
        "    def act(self, view):\n        return self._seen, view._count, view._replace()\n\n\n"
        "class View:\n    _count = 0\n"
    },
    "documented_private_name": {
        "wallie_litellm/guard/api.py": 'import litellm\n\n\ndef read(a):\n    return getattr(a, "_hidden_params")\n'
    },
    "listed_write": {
        "wallie_litellm/demo/__init__.py": '"""The demo.\n\n``demo``  it\n"""\n',
        "wallie_litellm/demo/demo.py": "def quiet():\n    import litellm\n\n    litellm.suppress_debug_info = True\n",
        "tests/demo/test_demo.py": "",
        "CONTRIBUTING.md": f"{GUIDE}`wallie_litellm/demo/`\n",
    },
    "constant_explained_at_its_end": {"wallie_litellm/config/models.py": "LIMIT: Final = 1  # a minute\n"},
    "roles_and_code_in_docstrings": {"wallie_litellm/config/models.py": '"""A :class:`Limit` of ``rpm``."""\n'},
    "broken_files_of_a_test": {"tests/config/broken/limits.yaml": ""},
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def report(root: Path) -> dict[str, list[str]]:
    """The violations of each broken contract."""
    checkout = Checkout(root)
    found = {
        name: sorted({str(violation) for violation in check(checkout)}) for name, check in (CONTRACTS | NOTES).items()
    }
    return {name: violations for name, violations in found.items() if violations}


def test_a_clean_checkout_has_no_violations(tmp_path: Path) -> None:
    write(tmp_path, CLEAN)
    assert report(tmp_path) == {}


def test_every_contract_has_a_violation_here() -> None:
    assert {case.contract for case in CASES} == CONTRACTS.keys() | NOTES.keys()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_violation_is_reported_alone(tmp_path: Path, case: Case) -> None:
    write(tmp_path, CLEAN | case.files)
    assert report(tmp_path) == {case.contract: case.reports}


@pytest.mark.parametrize("files", ALLOWED.values(), ids=ALLOWED)
def test_what_is_allowed_is_not_reported(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, CLEAN | files)
    assert report(tmp_path) == {}


def lint(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "architecture", str(root), *arguments]
    return subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)


def test_the_command_passes_a_clean_checkout(tmp_path: Path) -> None:
    write(tmp_path, CLEAN)
    ended = lint(tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == f"0 violations of {len(CONTRACTS)} contracts in 18 files\n"


def test_the_command_prints_violations_and_fails(tmp_path: Path) -> None:
    write(tmp_path, CLEAN | {"wallie_litellm/core/demand.py": "import yaml  # for whoever\n"})
    ended = lint(tmp_path)
    assert ended.returncode == 1
    assert ended.stdout.splitlines() == [
        'wallie_litellm/core/demand.py:1: "whoever" in a comment or docstring [persons]',
        "wallie_litellm/core/demand.py:1: imports yaml: core is pure [core-imports]",
    ]
    assert lint(tmp_path, "--only", "layers", "no-cycles").returncode == 0


def test_the_command_prints_notes_when_asked_and_passes(tmp_path: Path) -> None:
    write(tmp_path, CLEAN | {"wallie_litellm/core/demand.py": "LIMIT = 1\n"})
    assert lint(tmp_path).stdout == ""
    ended = lint(tmp_path, "--notes")
    assert ended.stdout == "wallie_litellm/core/demand.py:1: LIMIT is not Final [constants]\n"
    assert ended.returncode == 0
