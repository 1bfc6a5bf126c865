"""Losses and metrics of dictionaries in numpy, written out plainly: makes tests/data/dictionaries/numbers.json.

    python scripts/dictionary_numbers.py

Inputs are sines of their index, so that a test can make the same ones: value(i) = scale · sin(1 + i·step).
"""

import json
import os

import numpy as np


def wave(shape, scale, step):
    return scale * np.sin(1 + step * np.arange(np.prod(shape))).reshape(shape)


TOKENS, WIDTH, FEATURES, K = 5, 4, 8, 2
x = wave((TOKENS, WIDTH), 2.0, 0.7)
x_hat = wave((TOKENS, WIDTH), 1.9, 0.71)
w_dec = wave((FEATURES, WIDTH), 1.0, 1.3)
b_dec = wave((WIDTH,), 0.3, 0.9)
pre = wave((TOKENS, FEATURES), 1.5, 2.1)
threshold = np.abs(wave((FEATURES,), 0.4, 0.5))
dead = np.arange(FEATURES) % 3 == 0
norms = np.array([np.sqrt(sum(value**2 for value in row)) for row in w_dec])
features = np.maximum(pre, 0)

numbers = {}
numbers["squared_error"] = np.mean([np.sum((a - b) ** 2) for a, b in zip(x_hat, x)])
numbers["weighted_l1"] = np.mean([sum(f * n for f, n in zip(row, norms)) for row in features])
numbers["soft_count"] = np.mean([sum(np.tanh(4 * f * n) for f, n in zip(row, norms)) for row in features])
numbers["pre_activation"] = np.mean(
    [sum(max(t - z, 0) * n for z, t, n, d in zip(row, threshold, norms, dead) if d) for row in pre]
)

# Dead features: 0, 3 and 6; of them the width/2 = 2 largest write what is left.
residual = x - x_hat
total = 0.0
for row, left in zip(pre, residual):
    chosen = sorted(np.flatnonzero(dead), key=lambda j: -row[j])[: WIDTH // 2]
    total += np.sum((sum(row[j] * w_dec[j] for j in chosen) - left) ** 2)
numbers["auxiliary"] = total / TOKENS * min(dead.sum() / (WIDTH // 2), 1)

flat = sorted(features.ravel(), reverse=True)[: K * TOKENS]
numbers["batch_top_k_sum"] = sum(flat)
ends = [2, 4, 8]
numbers["prefixes"] = sum(
    np.mean(np.sum((features[:, :end] @ w_dec[:end] + b_dec - x) ** 2, axis=1)) for end in ends[:-1]
)

error = x - x_hat
lost, around, size = (np.sum(a**2, axis=1) for a in (error, x - x.mean(0), x))
numbers["fvu"] = lost.sum() / around.sum()
numbers["explained_dictionary_learning"] = 1 - np.var(error, axis=0).sum() / np.var(x, axis=0).sum()
numbers["explained_sae_lens_6_18"] = 1 - lost.sum() / size.sum()
numbers["explained_per_token"] = np.mean(1 - lost / around)
numbers["normalised_mse"] = lost.sum() / size.sum()
numbers["relative_bias"] = np.sum(x_hat**2) / np.sum(x * x_hat)
numbers["l2_ratio"] = np.mean(np.linalg.norm(x_hat, axis=1) / np.linalg.norm(x, axis=1))
numbers["cosine"] = np.mean(
    [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, x_hat)]
)

path = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "dictionaries", "numbers.json")
with open(path, "w") as file:
    json.dump({name: float(value) for name, value in numbers.items()}, file, indent=1)
