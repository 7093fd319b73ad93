"""Finds out whether an app draws noise that must stay secret, by reading its source.

Nothing is imported. An app that hides such a name (in a library of its own, say) says so itself:
`private = true` under `[tool.windflower]` in its pyproject.
"""

import ast
from pathlib import Path
from typing import Final

NOISY: Final = frozenset(
    {
        "LocalDpMod",
        "DPFedAvgAdaptive",
        "DPFedAvgFixed",
        "DifferentialPrivacyClientSideAdaptiveClipping",
        "DifferentialPrivacyClientSideFixedClipping",
        "DifferentialPrivacyServerSideAdaptiveClipping",
        "DifferentialPrivacyServerSideFixedClipping",
        "SecAggPlusWorkflow",
        "SecAggWorkflow",
        "secagg_mod",
        "secaggplus_mod",
    }
)
"""Flower's names whose noise or masks protect somebody."""


def noisy_name(folder: Path) -> str | None:
    """Return the first name of Flower that an app uses to draw secret noise; None without one."""
    for path in sorted(folder.rglob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # said when it is imported
        for node in ast.walk(tree):
            if (name := _named(node)) in NOISY:
                return name
    return None


def _named(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
            return name.rpartition(".")[2]
        case _:
            return None
