"""A TFDS dataset that needs no download. TFDS wants its builders in an importable module."""

import numpy as np
import tensorflow_datasets as tfds


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Thirty and five pictures of differing sizes, dark or light."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "picture": tfds.features.Image(shape=(None, None, 3)),
                    "kind": tfds.features.ClassLabel(names=["dark", "light"]),
                    "captions": tfds.features.Sequence({"text": tfds.features.Text(), "id": np.int64}),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(30), "test": self._generate_examples(5)}

    def _generate_examples(self, n):
        for i in range(n):
            level = 20 if i % 2 == 0 else 220
            picture = np.full((10 + i, 12, 3), level, "uint8")
            said = [{"text": ("dark", "light")[i % 2], "id": j} for j in range(1 + i % 3)]
            yield i, {"picture": picture, "kind": i % 2, "captions": said}
