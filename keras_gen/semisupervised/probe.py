"""A linear classifier on features: what they are worth, and a head to fine-tune from."""

import numpy as np

FOLDS = 5
STRENGTHS = 10.0 ** np.arange(-3, 4)


def linear_probe(features: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression, its strength chosen by cross-validation among the labelled examples.

    Features are brought to a common standard deviation of 1, all by the same factor: whitening would
    make noise as loud as what matters, of which few labels cannot tell.

    Args:
        features: (n, d).
        labels: (n,) ints, 0 to the number of classes - 1, of each class one at least.

    Returns:
        Kernel (d, classes) and bias (classes,): `features @ kernel + bias` are the scores.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    scale = max(float(features.std()), 1e-12)
    model = LogisticRegression(max_iter=1000)
    folds = min(FOLDS, int(np.bincount(labels).min()))
    if folds > 1:
        split = StratifiedKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(model, {"C": STRENGTHS}, cv=split, scoring="neg_log_loss")
        model = search.fit(features / scale, labels).best_estimator_
    else:
        model.fit(features / scale, labels)
    kernel, bias = model.coef_.T / scale, model.intercept_
    if kernel.shape[1] == 1:  # scikit-learn's two classes have one score
        kernel, bias = np.concatenate([-kernel, kernel], 1) / 2, np.concatenate([-bias, bias]) / 2
    return kernel.astype("float32"), bias.astype("float32")
