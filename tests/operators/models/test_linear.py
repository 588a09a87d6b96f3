"""Linear learners on vectors: equal to River's own class, and what their optimisers remember."""

import numpy as np
import pytest
from river import linear_model, optim
from river.utils import VectorDict
from riverrank.operators.models.linear import Linear, arrays_of

OPTIMIZERS = {
    "SGD": lambda: optim.SGD(0.05),
    "SGD, falling": lambda: optim.SGD(optim.schedulers.InverseScaling(0.1)),
    "Adam": lambda: optim.Adam(0.02),
    "RMSProp": lambda: optim.RMSProp(0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("parameters", [{}, {"l2": 0.01}, {"intercept_lr": 0.0}, {"clip_gradient": 0.1}])
def test_vectors_equal_rivers_own_class(optimizer, parameters):
    make = OPTIMIZERS[optimizer]
    rng = np.random.default_rng(3)
    names = [f"f{k}" for k in range(9)]
    start = rng.normal(size=9)
    ours = Linear(linear_model.LogisticRegression(make(), **parameters), start.copy())
    river = linear_model.LogisticRegression(make(), **parameters)
    river._weights = VectorDict(dict(zip(names, start.tolist(), strict=True)))
    for step in range(400):
        x = rng.normal(size=9) * (rng.random(9) < 0.7) * (30.0 if step % 50 == 0 else 1.0)
        label, weight = bool(rng.random() < 0.4), float(rng.random() + 0.1)
        named = dict(zip(names, x.tolist(), strict=True))
        logit = float(ours.logits(x[None])[0])
        assert logit == pytest.approx(river._raw_dot_one(named), rel=1e-9, abs=1e-9)
        ours.learn(x, label, weight)
        river.learn_one(named, label, weight)
    assert ours.weights == pytest.approx(np.array([river.weights[name] for name in names]), rel=1e-9, abs=1e-12)
    assert ours.intercept == pytest.approx(river.intercept, rel=1e-9, abs=1e-12)
    assert not np.allclose(ours.weights, start)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_what_the_optimiser_remembers_is_its_steps_and_arrays(optimizer):
    make = OPTIMIZERS[optimizer]
    rng = np.random.default_rng(5)
    steps = [(rng.normal(size=4), bool(rng.random() < 0.5)) for _ in range(40)]
    whole = Linear(linear_model.LogisticRegression(make()), np.zeros(4))
    first = Linear(linear_model.LogisticRegression(make()), np.zeros(4))
    for x, y in steps[:20]:
        whole.learn(x, y)
        first.learn(x, y)
    second = Linear(linear_model.LogisticRegression(make()), first.weights.copy(), first.intercept)
    arrays = {name: getattr(first.optimizer, name) for name in arrays_of(linear_model.LogisticRegression(make()))}
    assert set(arrays) == ({"m", "v"} if optimizer == "Adam" else set())
    second.recall(20, arrays)
    for x, y in steps[20:]:
        whole.learn(x, y)
        second.learn(x, y)
    assert second.weights.tolist() == whole.weights.tolist()
    assert second.intercept == whole.intercept
