"""A block that two scripts share has one text, no script imports another one, and each keeps to its size."""

import ast
from itertools import combinations

import pytest
from first_helpers import ORDER, ROOT, SCRIPTS

DIFFERENT = {"Args", "update", "train"}  # what an algorithm is: these may differ
PACKAGES = {"gymnasium", "numpy", "torch", "tyro", "tqdm"}


def blocks(source):
    tree = ast.parse(source).body
    named = {n.name: ast.get_source_segment(source, n) for n in tree if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    constants = {ast.unparse(n.targets[0]): ast.unparse(n) for n in tree if isinstance(n, ast.Assign)}
    return named | constants


def differing(texts):
    """Names that two of the sources define differently."""
    return {
        name
        for one, other in combinations(map(blocks, texts), 2)
        for name in one.keys() & other.keys() - DIFFERENT
        if one[name] != other[name]
    }


def test_shared_blocks_are_the_same_text():
    texts = [(ROOT / f"{name}.py").read_text() for name in SCRIPTS]
    assert not differing(texts[:-1])
    assert differing(texts) <= {"Policy"}  # DDPG's has no density
    changed = texts[0].replace("nn.Tanh()", "nn.ReLU()")
    assert changed != texts[0] and differing([texts[0], changed]) == {"mlp"}  # the check can fail


def depth(node, inside=0):
    kinds = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.FunctionDef, ast.ClassDef)
    chained = node.orelse if isinstance(node, ast.If) and len(node.orelse) == 1 else []
    elifs = [n for n in chained if isinstance(n, ast.If)]
    children = ast.iter_child_nodes(node)
    return max([inside] + [depth(n, inside + (isinstance(n, kinds) and n not in elifs)) for n in children])


@pytest.mark.parametrize("name", SCRIPTS)
def test_stands_alone(name):
    imports = [
        n for n in ast.walk(ast.parse((ROOT / f"{name}.py").read_text())) if isinstance(n, (ast.Import, ast.ImportFrom))
    ]
    packages = {(n.module if isinstance(n, ast.ImportFrom) else n.names[0].name).split(".")[0] for n in imports}
    assert not packages & set(ORDER)
    import sys

    assert packages - set(sys.stdlib_module_names) == PACKAGES
