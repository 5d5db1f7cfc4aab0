"""The paper's equations, literally: NumPy, float64, one block at a time, a loop for every sum over t and i.

Slow on purpose, and written from the paper alone: what the package computes must equal this. Parameters are a dict of
arrays under the names that the package's modules give them in their state dict.

Legend: T time-steps, L = K * K locations, D feature channels, H hidden units, C classes. With several layers L is the
sum of all L_m, and D the channels of the last layer, to which an affine map brings each slice of the others.
"""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    return np.exp(z) / sum(np.exp(z_j) for z_j in z)


def affine(params, name, v):
    return params[f"{name}.weight"] @ v + params[f"{name}.bias"]


def saliency(X):
    """What stands out, (T, L, 2): not of the paper; see `models.saliency`."""
    T, L, D = X.shape

    def standardised(values):
        mean = sum(values) / L
        sd = np.sqrt(sum((v - mean) ** 2 for v in values) / L)
        return [(v - mean) / max(sd, 0.1) for v in values]

    least = 1e-4 * sum(X[t, i] @ X[t, i] for t in range(T) for i in range(L)) / (T * L)
    change = [sum(np.var(X[:, i, d]) for d in range(D)) for i in range(L)]
    measures = []
    for t in range(T):
        norms = [np.log(np.sqrt(X[t, i] @ X[t, i] + least)) for i in range(L)]
        changes = [np.log(np.sqrt(change[i] + least)) for i in range(L)]
        measures.append(np.stack([standardised(norms), standardised(changes)], axis=1))
    return np.array(measures)


def slices_of(X, layers):
    """The slices of each layer as they are stored, without the zeros that fill up the channels: M of (T, L_m, D_m)."""
    found, first = [], 0
    for L_m, D_m in layers:
        found.append(X[:, first : first + L_m, :D_m])
        first += L_m
    return found


def mapped(params, X, layers):
    """One list of locations, (T, L, D): each slice of each layer but the last through that layer's affine map."""
    steps = []
    for t in range(len(X)):
        listed = []
        for m, X_m in enumerate(slices_of(X, layers)):
            for X_mi in X_m[t]:
                listed.append(X_mi if m == len(layers) - 1 else affine(params, f"maps.maps.{m}", X_mi))
        steps.append(listed)
    return np.array(steps)


def location_softmax(params, h, X, t, standing_out):
    """Eq. 1: l_t from h_{t-1} of the top layer; of other scorers from the slices X_{t,i}, or the block, as well.

    `standing_out` is `saliency` of the block; of several layers each by itself.
    """
    X_t, L = X[t], X.shape[1]
    if "location_scorer.weight" in params:
        W = params["location_scorer.weight"]
        scores = [W[i] @ h for i in range(L)]
    elif "saliency_scorer.weight" in params:
        scores = [standing_out[t, i] @ params["saliency_scorer.weight"] for i in range(L)]
    else:
        Wc = params["content_scorer.from_feature.weight"]
        deeper = [name.removesuffix(".weight") for name in params if "deeper" in name and name.endswith(".weight")]
        scores = []
        for i in range(L):
            projected = Wc @ X_t[i]
            for layer in deeper:
                projected = np.tanh(affine(params, layer, projected))
            joint = np.tanh(projected + affine(params, "content_scorer.from_hidden", h))
            scores.append(affine(params, "content_scorer.score", joint)[0])
    return softmax(np.array(scores))


def glimpse(l_t, X_t):
    """Eq. 2: the expected slice."""
    return sum(l_t[i] * X_t[i] for i in range(len(X_t)))


def mean_slice(X_t):
    return sum(X_t) / len(X_t)


def maximum(X_t):
    return np.array([max(X_i[d] for X_i in X_t) for d in range(X_t.shape[1])])


def lstm_layer(params, layer, x, h, c):
    """Eqs. 3-5.

    The affine map M of (h_{t-1}, x_t) is kept by torch as `weight_hh` and `weight_ih`, each with a bias of its own. The
    paper stacks the gates as i, f, o, g; torch as i, f, g, o.
    """
    name, H = f"cells.{layer}", len(h)
    z = params[f"{name}.weight_hh"] @ h + params[f"{name}.bias_hh"]
    z = z + params[f"{name}.weight_ih"] @ x + params[f"{name}.bias_ih"]
    i, f = sigmoid(z[0:H]), sigmoid(z[H : 2 * H])
    g, o = np.tanh(z[2 * H : 3 * H]), sigmoid(z[3 * H : 4 * H])
    c = f * c + i * g
    h = o * np.tanh(c)
    return h, c


def initial_state(params, X):
    """Eq. 6: h_0 and c_0 of every layer, tanh layers on the mean slice: two, or as many as there are."""
    T, L, _ = X.shape
    mean = sum(sum(X[t, i] for i in range(L)) / L for t in range(T)) / T

    def f_init(name):
        v = mean
        for k in range(sum(other.startswith(f"{name}.") and other.endswith("weight") for other in params)):
            v = np.tanh(affine(params, f"{name}.{2 * k}", v))
        return v

    layers = range(sum(name.endswith("weight_ih") for name in params))
    return [f_init(f"init_hidden.{n}") for n in layers], [f_init(f"init_cell.{n}") for n in layers]


def class_scores(params, h):
    """Logits of y_t: "a softmax over the label classes with an additional hidden layer with tanh activations"."""
    return affine(params, "head.logits", np.tanh(affine(params, "head.hidden", h)))


def chosen_location(l_t, noise_t):
    """Hard attention (Xu et al. 2015): the location with the largest log-probability plus noise."""
    scores = [np.log(l_t[i]) + noise_t[i] for i in range(len(l_t))]
    return max(range(len(l_t)), key=lambda i: scores[i])


def recognize(params, X, kind, given=None, noise=None, layers=()):
    """Logits (T, C) and attention (T, L) of one block X, shape (T, L, D); of several `layers`, (L_m, D_m) each.

    `kind` says where the input of the LSTM comes from: attention (`location`, `content`, `saliency`) or pooling (`avg`,
    `max`, `avg-max`);
    `softmax` is the regression on the whole cube, without an LSTM. Only attention gives the second. `given` (T, L)
    takes the place of Eq. 1. With `noise` (T, L) the LSTM sees the slice of `chosen_location` only.
    """
    parts = slices_of(X, layers) if layers else [X]
    T = len(X)
    if kind == "softmax":
        whole = [np.concatenate([X_m[t].reshape(-1) for X_m in parts]) for t in range(T)]
        return np.array([affine(params, "logits", cubes) for cubes in whole]), None
    standing_out = np.concatenate([saliency(X_m) for X_m in parts], axis=1) if kind == "saliency" else None
    X = mapped(params, X, layers) if layers else X
    D = X.shape[2]
    h, c = initial_state(params, X)
    logits, attention = [], []
    for t in range(T):
        if kind == "avg":
            x = mean_slice(X[t])
        elif kind == "max":
            x = maximum(X[t])
        elif kind == "avg-max":
            x = np.concatenate([mean_slice(X[t]), maximum(X[t])])
        else:
            attention.append(location_softmax(params, h[-1], X, t, standing_out) if given is None else given[t])
            x = glimpse(attention[t], X[t]) if noise is None else X[t][chosen_location(attention[t], noise[t])]
            if params["cells.0.weight_ih"].shape[1] == 2 * D:  # the mean, and what the glimpse differs from it
                x = np.concatenate([mean_slice(X[t]), x - mean_slice(X[t])])
        for layer in range(len(h)):
            h[layer], c[layer] = lstm_layer(params, layer, x, h[layer], c[layer])
            x = h[layer]
        logits.append(class_scores(params, h[-1]))
    return np.array(logits), np.array(attention) if attention else None


def recognize_batch(params, cubes, kind, given=None, noise=None, layers=()):
    """`recognize` for each block of (B, T, L, D)."""
    maps = [[None] * len(cubes) if each is None else each for each in (given, noise)]
    blocks = [recognize(params, X, kind, *own, layers) for X, *own in zip(cubes, *maps, strict=True)]
    attention = None if blocks[0][1] is None else np.stack([l for _, l in blocks])  # noqa: E741
    return np.stack([logits for logits, _ in blocks]), attention


def loss(params, logits, attention, targets, attention_penalty, weight_decay):
    """Eq. 7, its first two terms averaged over the batch.

    `targets` are class indices (B,), or zeros and ones (B, C) where a video can have several classes: each class is
    then a question of its own, answered by a sigmoid.
    """
    B, T, C = logits.shape
    total = 0.0
    for b in range(B):
        for t in range(T):
            for i in range(C):
                if targets.ndim == 1:
                    y, y_hat = float(targets[b] == i), softmax(logits[b, t])[i]
                    total -= y * np.log(y_hat)
                else:
                    y, y_hat = targets[b, i], sigmoid(logits[b, t, i])
                    total -= y * np.log(y_hat) + (1 - y) * np.log(1 - y_hat)
        if attention is not None:
            for i in range(attention.shape[2]):
                total += attention_penalty * (1 - sum(attention[b, t, i] for t in range(T))) ** 2
    return total / B + weight_decay * sum(np.sum(theta**2) for theta in params.values())
