"""The denoiser that comes along, on photographs that it was not made for, beside BM3D.

    python -m benchmarks.photographs [--run RUN] [--level 25]

Five photographs that come with scikit-learn and scikit-image, at half their size; Gaussian noise of
--level / 255, clipped and rounded to 8 bits, as a file holds it. BM3D (pip install -e ".[denoise]") is told
the level, the network is not. Prints PSNR, and the colourfulness that is left: the mean distance of the
values from grey, in shares of the clean photograph's.
"""

import argparse

import keras_gen  # noqa: F401 - chooses a backend before Keras starts


def photographs():
    import numpy as np
    from skimage import data
    from skimage.transform import resize
    from sklearn.datasets import load_sample_image

    for name in ("china", "flower", "astronaut", "coffee", "cat"):
        sklearns = name in ("china", "flower")
        picture = load_sample_image(f"{name}.jpg") if sklearns else getattr(data, name)()
        half = resize(picture, (picture.shape[0] // 2, picture.shape[1] // 2), anti_aliasing=True)
        yield name, np.round(255 * half) / 255


def colourfulness(picture) -> float:
    return float(abs(picture - picture.mean(axis=-1, keepdims=True)).mean())


def main() -> None:
    import bm3d
    import numpy as np
    from skimage.metrics import peak_signal_noise_ratio

    from apps.denoise import load_denoiser

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", help="default: the model that comes along")
    parser.add_argument("--level", type=float, default=25)
    options = parser.parse_args()
    sigma = options.level / 255
    model = load_denoiser(options.run)
    print(f"noise of {options.level:g}/255: PSNR, dB (colourfulness left)")
    print("| | noisy | this model | BM3D |\n|---|---|---|---|")
    for name, clean in photographs():
        noisy = clean + sigma * np.random.default_rng(0).normal(size=clean.shape)
        noisy = np.round(255 * np.clip(noisy, 0, 1)) / 255
        cells = [f"{peak_signal_noise_ratio(clean, noisy, data_range=1):.2f}"]
        for made in (model.denoise(noisy.astype("float32")), np.clip(bm3d.bm3d_rgb(noisy, sigma), 0, 1)):
            psnr = peak_signal_noise_ratio(clean, made.astype("float64"), data_range=1)
            cells.append(f"{psnr:.2f} ({colourfulness(made) / colourfulness(clean):.2f})")
        print(f"| {name}, {clean.shape[1]}x{clean.shape[0]} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
