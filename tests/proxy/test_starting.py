"""Starting the proxy, swapping what it serves, and refusing a broken file."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from ports import free_port
from proxy_support import executable, fork, fork_command, fork_proxy, lay_out, litellm_command
from support import shipped_config


def pointed(fleet):
    config = shipped_config()
    config["model_list"] = fleet.point(config["model_list"])
    return config


def test_a_model_a_chain_and_a_limit_are_swapped_in_the_yaml_alone(forks, tmp_path, fleet):
    config = pointed(fleet)
    models = {entry["model_name"]: entry["litellm_params"] for entry in config["model_list"]}
    models["gpt-4o-mini"] |= {**models["deepseek-chat"]}
    config["router_settings"]["fallbacks"] = [{"gpt-4o-mini": ["gemini-2.0-flash"]}]
    config["wallie"] |= {"providers": {"deepseek": {"rpm": 1}}, "admission": {"max_wait": "1s"}}
    proxy = fork_proxy(forks, lay_out(tmp_path, config))
    try:
        first, second = (proxy.chat("gpt-4o-mini").json["choices"][0]["message"]["content"] for _ in range(2))
    finally:
        proxy.stop()
    assert (first, second) == ("Hello from deepseek.", "Hello from gemini.")
    said = proxy.log.read_text()
    assert "wallie-litellm: guarded by " in said
    assert "limits in memory; no ledger; page /wallie/" in said


def test_wallie_litellm_proxy_starts_the_same_on_loopback_from_several_files_and_with_variables_of_theirs(
    forks, tmp_path, fleet
):
    config = pointed(fleet)
    models = config.pop("model_list")
    next(entry for entry in models if entry["model_name"] == "gpt-4o-mini")["litellm_params"] |= {
        "model": "os.environ/MINI",
        "api_key": "os.environ/MINE",
    }
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"model_list": models}))
    variables = {"MINI": "openai/gpt-4o-mini", "MINE": "sk-of-the-file"}
    ledger = {"ledger": {"url": "sqlite:///calls.db"}}
    config |= {"include": ["models.yaml"], "environment_variables": variables, "wallie": {**config["wallie"], **ledger}}
    subprocess.run([executable("wallie-litellm"), "init", str(tmp_path)], check=True)
    path = tmp_path / "router_config.yaml"
    path.write_text(yaml.safe_dump(config))
    port = free_port()
    command = [executable("wallie-litellm"), "proxy", "--config", str(path), "--port", str(port)]
    proxy = fork_command(forks, command, tmp_path, port)
    try:
        assert proxy.chat("gpt-4o-mini").status == 200
    finally:
        proxy.stop()
    said = [line for line in proxy.log.read_text().splitlines() if line.startswith("wallie-litellm: ")]
    assert said == [
        f"wallie-litellm: guarded by {path}: 10 model groups, 5 providers (anthropic, deepseek, gemini, groq, openai)",
        f"wallie-litellm: limits in memory; ledger {tmp_path}/calls.db; page http://127.0.0.1:{port}/wallie/",
        "wallie-litellm: after an edit of the file: wallie-litellm reload, or SIGHUP",
    ]


@pytest.mark.parametrize("starter", ["litellm", "wallie-litellm"])
def test_a_broken_file_stops_the_proxy_with_its_problems(forks, tmp_path, starter, fleet):
    config = pointed(fleet)
    config["wallie"]["providers"]["openai"] = {"rpmm": 5}
    path, log = lay_out(tmp_path, config), tmp_path / "proxy.log"
    command = litellm_command(path, free_port())
    if starter == "wallie-litellm":
        command[:1] = [executable("wallie-litellm"), "proxy"]
    assert fork(forks, command, tmp_path, log).wait(90) not in (0, None)
    said = log.read_text()
    assert "wallie.providers.openai.rpmm: unknown key" in said
    if starter == "wallie-litellm":
        assert "Traceback" not in said
