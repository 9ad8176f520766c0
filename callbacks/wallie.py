"""Composition root for the LiteLLM proxy: ``litellm_settings.callbacks: callbacks.wallie.handler``."""

from pathlib import Path

from wallie_litellm.proxy import install

handler = install(default_config=Path(__file__).parent.parent / "router_config.yaml")
