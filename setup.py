"""Packaging. `pip install -e ".[tensorflow]"` is what most people want; see the README."""

from pathlib import Path

from setuptools import find_packages, setup

version = next(
    line.split('"')[1]
    for line in Path("keras_gen/__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

# tensorflow-datasets needs importlib_resources to prepare a dataset and does not declare it.
DATASETS = ["tensorflow-datasets>=4.9.10", "importlib_resources>=6.0"]

setup(
    name="keras-gen",
    version=version,
    description="Deep generative models on Keras 3: one source of mathematics, three backends.",
    long_description=Path("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["keras_gen", "keras_gen.*", "apps", "apps.*"]),
        "keras_gen.savedmodels",  # the models that come along: keras_gen/shipped.py finds them
    ],
    package_dir={"keras_gen.savedmodels": "savedmodels"},
    package_data={"keras_gen.savedmodels": ["*/model.keras", "*/card.json"]},
    install_requires=[
        "keras>=3.15",
        "numpy>=2.0",
        "pillow>=11.0",
        "matplotlib>=3.9",
        "rich>=13.7",
        "scikit-image>=0.25",
        "scikit-learn>=1.5",
        "tyro>=0.9.20",
    ],
    extras_require={
        "tensorflow": ["tensorflow>=2.20", *DATASETS],
        "tensorflow-gpu": ["tensorflow[and-cuda]>=2.20", *DATASETS],
        "jax": ["jax>=0.7"],
        "torch": ["torch>=2.13"],
        # BM3D is licensed for non-commercial use; nothing but its row in a table needs it.
        "denoise": ["bm3d>=4.0", "opencv-python-headless>=4.10"],
        # CLIP's text encoder, which others trained; it needs TensorFlow to be installed, on any backend
        "keras-hub": ["keras-hub>=0.32"],
        # keras-cv is no longer developed; what only it has: Stable Diffusion, and a few augmentations.
        "keras-cv": ["keras-cv>=0.9"],
        "dev": ["pytest>=8.3", "pytest-xdist>=3.7", "ruff>=0.17", "mypy>=2.0", "tox>=4.20"],
    },
)
