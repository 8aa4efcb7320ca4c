"""What any detector should be seen beside: scikit-learn's, on the same data."""

import numpy as np

BASELINES = ("PCA reconstruction", "isolation forest", "one-class SVM")
MOST_FOR_SVM = 3000
"""The SVM's cost grows with the square of the examples; it is fitted to so many, drawn by chance."""


def baseline_scores(
    normal: np.ndarray, test: np.ndarray, components: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Scores, higher is stranger, of `test` (n, ...) by each of `BASELINES`, fitted to `normal`.

    PCA keeps `components` numbers, fewer where there are not so many; the forest and the SVM have
    scikit-learn's defaults but for 200 trees and nu = 0.1.
    """
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.svm import OneClassSVM

    normal, test = normal.reshape(len(normal), -1), test.reshape(len(test), -1)
    pca = PCA(min(components, *normal.shape), random_state=seed).fit(normal)
    error = ((test - pca.inverse_transform(pca.transform(test))) ** 2).mean(axis=1)
    forest = IsolationForest(n_estimators=200, random_state=seed).fit(normal)
    chosen = np.random.default_rng(seed).permutation(len(normal))[:MOST_FOR_SVM]
    svm = OneClassSVM(nu=0.1).fit(normal[chosen])
    scores = (error, -forest.score_samples(test), -svm.decision_function(test))
    return dict(zip(BASELINES, scores, strict=True))
