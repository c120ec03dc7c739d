"""How the scripts are written: shared blocks, order, width, density, no neighbor imported."""

import ast
import io
import re
import sys
import tokenize
import tomllib
from itertools import combinations

import pytest
from helpers import ROOT, SCRIPTS, source

DIFFERENT = {"Args", "update", "train"}  # what an algorithm is: these may differ
OF_ONE_SCRIPT = {"ddpg": {"Policy", "load_policy"}, "reinforce": {"collect_rollout", "moments"}}
CONSTANTS = {"SCRIPT", "MODES", "RANK"}
PACKAGES = {"gymnasium", "mujoco", "numpy", "torch", "tyro", "tqdm"}
UPDATE_ENDS = {"trpo_continuous": 340}
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def blocks(text):
    """The text of each function, class and constant."""
    tree = ast.parse(text).body
    named = [node for node in tree if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    constants = [node for node in tree if isinstance(node, ast.Assign)]
    texts = {node.name: ast.get_source_segment(text, node) for node in named}
    return texts | {ast.unparse(node.targets[0]): ast.unparse(node) for node in constants}


def differing(texts):
    """(name of a block, scripts) for each block that two scripts define differently."""
    return {
        (name, one, other)
        for one, other in combinations(texts, 2)
        for name in texts[one].keys() & texts[other].keys() - DIFFERENT - CONSTANTS
        if texts[one][name] != texts[other][name]
        and name not in OF_ONE_SCRIPT.get(one, set()) | OF_ONE_SCRIPT.get(other, set())
    }


def test_shared_blocks_are_the_same_text():
    assert not differing({name: blocks(source(name)) for name in SCRIPTS})


def test_the_comparison_of_blocks_can_fail():
    text = source("ppo_continuous")
    changed = text.replace("nn.Tanh()", "nn.ReLU()")
    found = differing({"a2c_continuous": blocks(text), "ppo_continuous": blocks(changed)})
    assert changed != text and {name for name, *_ in found} == {"mlp"}


def tokens(text):
    """(line, column) of each token of code: comments and strings that stand alone are none."""
    alone = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            alone |= set(range(node.lineno, node.end_lineno + 1))
    found = tokenize.generate_tokens(io.StringIO(text).readline)
    return [t.start for t in found if t.type not in NOT_CODE and t.start[0] not in alone]


def statements(text):
    """(number of tokens, line) of each simple statement that writes out no dict and no list."""
    positions, found = tokens(text), []
    kinds = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Return, ast.Raise, ast.Assert)
    for node in ast.walk(ast.parse(text)):
        literal = any(isinstance(x, (ast.Dict, ast.List)) for x in ast.walk(node))
        if isinstance(node, kinds) and not literal:
            start, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
            found.append((sum(start <= position < end for position in positions), node.lineno))
    return found


def nesting(node, depth=0):
    """The deepest block below a node; an elif is no deeper than its if."""
    kinds = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.FunctionDef, ast.ClassDef)
    chained = node.orelse if isinstance(node, ast.If) and len(node.orelse) == 1 else []
    deepest = depth
    for child in ast.iter_child_nodes(node):
        elif_ = isinstance(child, ast.If) and child in chained
        deepest = max(deepest, nesting(child, depth + (isinstance(child, kinds) and not elif_)))
    return deepest


def functions(text):
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def length(node):
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("name", SCRIPTS)
def test_width(name):
    assert max(map(len, source(name).splitlines())) <= 100


@pytest.mark.parametrize("name", SCRIPTS)
def test_density(name):
    positions = tokens(source(name))
    assert len(positions) / len({line for line, _ in positions}) <= 11
    assert max(statements(source(name)))[0] <= 45


def test_density_can_fail():
    packed = "a, b = [x for x in range(9)], (1, 2)\n"
    assert len(tokens(packed)) == 20 and statements("f(1, 2)\nx = y\n") == [(6, 1), (3, 2)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_algorithm_stands_first(name):
    text = source(name)
    found = functions(text)
    assert len(ast.get_docstring(ast.parse(text)).splitlines()) <= 30
    assert found["update"].end_lineno < UPDATE_ENDS.get(name, 270)
    assert length(found["train"]) <= 75
    (loop,) = [node for node in ast.walk(found["train"]) if isinstance(node, ast.While)]
    assert length(loop) <= 40
    assert nesting(ast.parse(text)) <= 4


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_function_returns_more_than_four_values(name):
    nodes = [node for f in functions(source(name)).values() for node in ast.walk(f)]
    returned = [node.value for node in nodes if isinstance(node, ast.Return)]
    assert max(len(x.elts) for x in returned if isinstance(x, ast.Tuple)) in (2, 3, 4)


@pytest.mark.parametrize("name", SCRIPTS)
def test_stands_alone(name):
    nodes = [
        node
        for node in ast.walk(ast.parse(source(name)))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    modules = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in nodes}
    packages = {module.split(".")[0] for module in modules}
    assert not packages & set(SCRIPTS)
    assert packages - set(sys.stdlib_module_names) == PACKAGES


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_says_what_it_needs(name):
    """The inline metadata (PEP 723) are those of requirements.txt."""
    pattern = r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$"  # the PEP's own
    content = re.search(pattern, source(name)).group("content")
    metadata = "".join(line[2:] for line in content.splitlines(keepends=True))
    metadata = tomllib.loads(metadata)
    required = (ROOT / "requirements.txt").read_text()
    lines = [line for line in required.splitlines() if line and not line.startswith("#")]
    assert metadata["dependencies"] == lines
    assert metadata["requires-python"] == ">=3.11" and "Python 3.11" in required
