"""Reads a dashboard by Grafana's own model and tells what that does not know: dashboard.py FILE"""
import json
import sys

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

# Grafana's import knows these; they are not part of the dashboard.
OF_THE_IMPORT = {".__inputs", ".__requires"}


def lost(before, after, path=""):
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{path}.{key}"
            else:
                yield from lost(value, after[key], f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{path}[{at}]")
    elif before != after:
        yield path


plugins.register_default_plugins()
with open(sys.argv[1], encoding="utf-8") as file:
    dashboard = json.load(file)
back = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
if unknown := [path for path in lost(dashboard, back) if path not in OF_THE_IMPORT]:
    sys.exit("Grafana's model does not know " + ", ".join(unknown))
