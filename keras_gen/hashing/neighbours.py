"""Which pictures are alike before anything is learned, and batches of such pairs."""

import numpy as np

from keras_gen.data import Batches, ImageData

COMPONENTS = 32
MOST = 60_000
"""Among so many pictures each finds its neighbours: the cost stays linear in their number."""


def neighbours_of(data: ImageData, k: int, seed: int = 0) -> np.ndarray:
    """The indices of each picture's k nearest, (n, k) int32, nearest first, in most cases itself.

    By Euclidean distance in the first 32 principal components, which see no labels and little noise; of
    more than 60,000 pictures among a random 60,000. k is brought down to the number of pictures.
    """
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    chosen = np.sort(np.random.default_rng(seed).permutation(len(data))[:MOST])
    pca = PCA(min(COMPONENTS, len(chosen), int(np.prod(data.shape))), random_state=seed)
    reached = pca.fit_transform(data.floats(chosen).reshape(len(chosen), -1))
    search = NearestNeighbors(n_neighbors=min(k, len(chosen)), algorithm="brute").fit(reached)
    found = []
    for start in range(0, len(data), 5000):
        part = data.floats(slice(start, start + 5000))
        found.append(search.kneighbors(pca.transform(part.reshape(len(part), -1)), return_distance=False))
    return chosen[np.concatenate(found)].astype("int32")


class NeighbourBatches(Batches):
    """`Batches` that hold beside each `image` one of its neighbours as `neighbour`.

    Args:
        neighbours: (n, k) indices into the data. In training one of the k, drawn anew at every visit;
            otherwise the last.
    """

    def __init__(self, data: ImageData, neighbours: np.ndarray, batch_size: int, **kwargs):
        super().__init__(data, batch_size, **kwargs)
        self.neighbours = neighbours

    def partners(self, epoch: int, step: int, indices: np.ndarray) -> np.ndarray:
        """The neighbours that go with the pictures `indices` of one batch."""
        k = self.neighbours.shape[1]
        column = np.full(len(indices), k - 1)
        if self.training:
            column = np.random.default_rng([self.seed, 1, epoch, step]).integers(k, size=len(indices))
        return self.neighbours[indices, column]

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        batch = super().__getitem__(step)
        indices = self._cached_order()[step * self.batch_size : (step + 1) * self.batch_size]
        return {**batch, "neighbour": self.data.floats(self.partners(self.epoch, step, indices))}

    def _tf_batch(self, tf):
        batch = super()._tf_batch(tf)

        def with_neighbours(epoch, step, indices):
            partners = tf.numpy_function(self.partners, [epoch, step, indices], tf.int32)
            partners = tf.ensure_shape(partners, indices.shape)
            return {**batch(epoch, step, indices), "neighbour": batch(epoch, step, partners)["image"]}

        return with_neighbours
