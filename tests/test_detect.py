"""Anomaly detection: scores, thresholds, tables, and the app."""

import csv
from pathlib import Path

import keras
import numpy as np
import pytest
from calls import run
from harness import check_model, serve
from PIL import Image
from sklearn.metrics import roc_auc_score

from keras_gen import load_model
from keras_gen.anomaly import Detector, baseline_scores, threshold_at
from keras_gen.autoencoders import Autoencoder
from keras_gen.data import Batches, FeatureData, ImageData, load_table
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.export import can_export
from keras_gen.networks import mlp_decoder, mlp_encoder
from keras_gen.variational import VAE, Gaussian

ROOT = Path(__file__).parent.parent


def make(shape, d=3, key="image", vae=True, **kwargs) -> Detector:
    def networks(units):
        return mlp_encoder(shape, units, (32,)), mlp_decoder(d, shape, (32,))

    return Detector(
        Autoencoder(*networks(d), data_key=key),
        VAE(*networks(2 * d), likelihood=Gaussian(0.5), data_key=key) if vae else None,
        **kwargs,
    )


def plane(n, seed, spread=0.1, columns=8) -> np.ndarray:
    """Rows near a plane in `columns` dimensions, in units of their own."""
    rng = np.random.default_rng(seed)
    ways = np.random.default_rng(99).standard_normal((2, columns))
    rows = rng.standard_normal((n, 2)) @ ways + spread * rng.standard_normal((n, columns))
    return (rows * 10.0 ** np.arange(-2, columns - 2) + 5).astype("float32")


@pytest.fixture(scope="module")
def trained(digits):
    """A detector of zeros, a few seconds trained, and its calibration pictures."""
    keras.utils.set_random_seed(0)
    zeros = digits.train.select(np.flatnonzero(digits.train.labels == 0))
    normal, held_out = zeros.select(slice(30, None)), zeros.select(slice(0, 30))
    detector = make((8, 8, 1), 4)
    detector.start_from(normal)
    detector.compile("adam")
    detector.fit({"image": normal.floats()}, batch_size=len(normal), epochs=150, verbose=0)
    detector.fit_statistics(normal)
    detector.calibrate(held_out, 0.1)
    return detector


class TestDetector:
    @pytest.mark.parametrize("key", ["image", "features"])
    def test_whole_life(self, key, tmp_path):
        shape = (8, 8, 1) if key == "image" else (6,)
        data = np.random.default_rng(0).uniform(-1, 1, (16, *shape)).astype("float32")
        check_model(
            lambda: make(shape, key=key), {key: data}, tmp_path, export=None if key == "features" else False
        )

    def test_without_a_vae(self, digits):
        scores = make((8, 8, 1), vae=False).scores(digits.test.select(slice(0, 5)))
        assert list(scores) == ["reconstruction", "relative", "code"]

    def test_finds_other_digits(self, trained, digits):
        other = digits.test.labels != 0
        for name, values in trained.scores(digits.test).items():
            least = 0.65 if name == "code" else 0.95
            assert roc_auc_score(other, values) > least, name

    def test_repeats_itself_to_the_bit(self, trained, digits, tmp_path):
        first = trained.scores(digits.test)
        keras.random.normal((3,))
        again = trained.scores(digits.test)
        trained.save(tmp_path / "model.keras")
        loaded = load_model(tmp_path / "model.keras")
        reloaded = loaded.scores(digits.test)
        for name, values in first.items():
            np.testing.assert_array_equal(values, again[name])
            np.testing.assert_array_equal(values, reloaded[name])
        assert loaded.threshold == trained.threshold < np.inf

    def test_company_does_not_matter(self, trained, digits):
        whole = trained.scores(digits.test)
        noise = np.random.default_rng(0).uniform(-1, 1, (300, 8, 8, 1)).astype("float32")
        for at in (0, 7, 300):
            one = digits.test.floats([at])
            alone = trained.scores(one)
            among = trained.scores(np.concatenate([noise[:20], one, noise]))
            for name in whole:
                assert alone[name][0] == pytest.approx(whole[name][at], rel=1e-6), name
                assert among[name][20] == pytest.approx(whole[name][at], rel=1e-6), name

    @pytest.mark.skipif(not can_export(), reason="TensorFlow writes SavedModels")
    def test_served(self, trained, digits, tmp_path):
        from harness import CARD

        from keras_gen.export import export_file

        trained.save(tmp_path / "model.keras")
        export_file(tmp_path / "model.keras", tmp_path / "served", CARD)
        images = digits.test.images[:40]
        expected = trained.score(digits.test.select(slice(0, 40)))
        served = {}
        for name, chosen in (("whole", images), ("one", images[7:8])):
            inputs = {f"{e}/image": chosen for e in ("score", "is_anomaly", "heat_map")}
            served[name] = serve(tmp_path / "served", inputs, tmp_path)
        whole = served["whole"]
        np.testing.assert_allclose(whole["score"], expected, rtol=1e-4)
        np.testing.assert_allclose(served["one"]["score"], whole["score"][7:8], rtol=1e-5)
        np.testing.assert_array_equal(whole["is_anomaly"], whole["score"] > trained.threshold)
        np.testing.assert_allclose(whole["heat_map"].mean(axis=(1, 2)), whole["score"], rtol=1e-4)

    @pytest.mark.parametrize("default", ["relative", "reconstruction"])
    def test_heat_map_averages_to_the_score(self, default, digits):
        detector = make((8, 8, 1), default=default)
        detector.fit_statistics(digits.train.select(slice(0, 100)))
        some = digits.test.select(slice(0, 30))
        maps = detector.heat_map(some)
        assert maps.shape == (30, 8, 8) and (maps >= 0).all()
        np.testing.assert_allclose(maps.mean(axis=(1, 2)), detector.score(some), rtol=1e-5)

    def test_heat_map_shows_where(self, trained, digits):
        zeros = digits.test.floats(digits.test.labels == 0)
        damaged = zeros.copy()
        damaged[:, 3:5, 3:5] = 1  # a zero is hollow
        where = trained.heat_map(damaged).mean(axis=0)
        row, column = np.unravel_index(where.argmax(), where.shape)
        assert row in (3, 4) and column in (3, 4)

    def test_code_is_the_mahalanobis_distance(self, trained, digits):
        from sklearn.covariance import LedoitWolf

        zeros = digits.train.select(np.flatnonzero(digits.train.labels == 0)).select(slice(30, None))
        codes = to_numpy(trained.autoencoder.encode(zeros.floats()))
        tests = to_numpy(trained.autoencoder.encode(digits.test.floats(slice(0, 50))))
        expected = LedoitWolf().fit(codes).mahalanobis(tests)
        found = trained.scores(digits.test.select(slice(0, 50)))["code"]
        np.testing.assert_allclose(found, expected, rtol=1e-3)

    def test_bound_is_the_vaes(self, trained, digits):
        """The mean over many draws of the model's own estimate, within its error."""
        some = digits.test.select(slice(0, 40))
        own = -trained.vae.elbo(some.floats(), samples=500)
        found = trained.scores(some)["bound"]
        assert np.corrcoef(own, found)[0, 1] > 0.99
        assert abs(found.mean() - own.mean()) < 0.1 * abs(own.mean())

    def test_training_moves_both_models_as_alone(self, digits):
        """The detector's first losses are those of its parts, in the parts' own units."""
        detector = make((8, 8, 1))
        detector.compile("sgd")
        data = digits.train.floats(slice(0, 50))
        logs = detector.evaluate({"image": data}, batch_size=50, verbose=0, return_dict=True)
        expected = to_numpy(detector.autoencoder.reconstruction_error(data)).mean()
        assert logs["reconstruction_loss"] == pytest.approx(expected, rel=1e-4)
        assert set(logs) == {"reconstruction_loss", "bound_loss"}

    def test_relative_forgives_contrast(self, trained, digits):
        """A fainter picture has the smaller error; the share that stays unexplained tells it all the
        same, and a picture without any contrast divides by nothing."""
        other = digits.test.floats(digits.test.labels != 0)
        faint = -1 + 0.3 * (other + 1)
        clear, dim = trained.scores(other), trained.scores(faint)
        assert dim["reconstruction"].mean() < 0.9 * clear["reconstruction"].mean()
        assert (dim["relative"] > trained.threshold).mean() > 0.9
        assert np.isfinite(trained.scores(np.zeros((1, 8, 8, 1), "float32"))["relative"]).all()

    def test_refused(self):
        with pytest.raises(InputError, match="Expected a score of.*'wobbly'"):
            make((4,), key="features", default="wobbly")
        with pytest.raises(InputError, match="'bound'"):
            make((4,), key="features", vae=False, default="bound")
        a, b = make((4,), key="features"), make((5,), key="features")
        with pytest.raises(InputError, match=r"\(4,\) and \(5,\)"):
            Detector(a.autoencoder, b.vae)
        with pytest.raises(InputError, match="at least one example"):
            a.score(np.zeros((0, 4), "float32"))


class TestThreshold:
    @pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (30, 0.1), (500, 0.05), (99, 0.01)])
    def test_conformal(self, count, rate):
        """Averaged over calibration sets the rate of alarms is the order statistic's own."""
        rng = np.random.default_rng(0)
        rates = [1 - threshold_at(rng.random(count), rate) for _ in range(4000)]  # uniform: F(t) = t
        k = np.ceil(round((1 - rate) * (count + 1), 9))
        exact = (count + 1 - k) / (count + 1)
        assert exact <= rate + 1e-9 and rate - exact < 1 / (count + 1)
        assert abs(np.mean(rates) - exact) < 4 * np.std(rates) / np.sqrt(len(rates))

    def test_of_a_detector_on_fresh_normal_data(self):
        keras.utils.set_random_seed(0)
        detector = make((8,), 2, "features", default="reconstruction")
        train, held, fresh = (FeatureData("plane", plane(n, s)) for n, s in ((500, 0), (1000, 1), (5000, 2)))
        detector.start_from(train)
        detector.fit_statistics(train)
        detector.calibrate(held, 0.1)
        thresholds = to_numpy(detector.thresholds.value)
        error = np.sqrt(0.09 * (1 / 1000 + 1 / 5000))
        for threshold, (name, values) in zip(thresholds, detector.scores(fresh).items(), strict=True):
            assert abs((values > threshold).mean() - 0.1) < 4 * error, name

    def test_too_few(self):
        with pytest.raises(InputError, match="at least 19 .*Received: 18"):
            threshold_at(np.arange(18.0), 0.05)
        with pytest.raises(InputError, match="Received: 1"):
            threshold_at(np.arange(18.0), 1)


def test_auroc_of_the_opposite(trained, digits):
    other = digits.test.labels != 0
    score = trained.score(digits.test)
    assert roc_auc_score(other, -score) == pytest.approx(1 - roc_auc_score(other, score), abs=1e-12)


@pytest.mark.once
def test_baselines_find_what_is_far():
    normal, test = plane(400, 0), plane(200, 1)
    scale = normal.std(axis=0)
    normal, test = normal / scale, test / scale
    test[:50] += 3 * np.random.default_rng(0).standard_normal((50, 8)).astype("float32")
    for name, values in baseline_scores(normal, test, 2).items():
        assert roc_auc_score(np.arange(200) < 50, values) > 0.9, name


@pytest.mark.once
class TestTables:
    def write(self, path, text):
        path.write_text(text)
        return str(path)

    def test_csv(self, tmp_path):
        lines = [f"{i};{i / 2};{'odd' if i % 2 else 'even'};{7}" for i in range(40)]
        name = self.write(tmp_path / "t.csv", "\ufeff" + "\n".join(["id;half; kind ;flat", *lines]) + "\n\n")
        splits = load_table(name, "kind", ["id"])
        assert splits.train.columns == ("half", "flat") and splits.train.classes == ("even", "odd")
        assert (len(splits.train), len(splits.test), splits.train.shape) == (36, 4, (2,))
        both = np.concatenate([splits.train.features[:, 0], splits.test.features[:, 0]])
        assert sorted(both) == [i / 2 for i in range(40)]
        odd = splits.train.labels == 1
        assert (splits.train.features[odd, 0] % 1 == 0.5).all()

    def test_npz(self, tmp_path):
        rows = plane(50, 0)
        np.savez(tmp_path / "t.npz", x_train=rows[:40], x_test=rows[40:], y_train=np.arange(40))
        splits = load_table(str(tmp_path / "t.npz"), limit=30)
        assert (len(splits.train), len(splits.test)) == (30, 10)
        assert splits.train.labels is not None and splits.test.labels is None

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a,b\n1,\n2,nan\n3,4\n5,?\n", "column 'b' in 3 rows"),
            ("a,b\n1,inf\n2,3\n", "column 'b' in 1 rows"),
            ("a,b\n1,2\n3,red\n", "'red' in line 3"),
            ("1,2\n3,4\n", "header.*numbers"),
            ("a,a\n1,2\n3,4\n", "'a' twice"),
            ("a,b\n1,2\n3\n", "1 in line 3"),
            ("a,b\n", "header and rows"),
            ("", "header and rows"),
        ],
    )
    def test_refused(self, text, message, tmp_path):
        with pytest.raises(InputError, match=message):
            load_table(self.write(tmp_path / "t.csv", text))

    def test_refused_names(self, tmp_path):
        name = self.write(tmp_path / "t.csv", "a,b\n1,2\n3,4\n")
        with pytest.raises(InputError, match="expected a column 'c'. Received: columns a, b"):
            load_table(name, "c")
        with pytest.raises(InputError, match="existing file"):
            load_table(str(tmp_path / "none.csv"))

    def test_batches_alike_on_both_paths(self):
        data = FeatureData("plane", plane(25, 0), np.arange(25, dtype="int32"))
        batches = Batches(data, 10, training=True, seed=3)
        streamed = iter(batches.stream()) if keras.backend.backend() == "tensorflow" else iter(batches)
        for step in range(len(batches)):
            there, here = next(streamed), batches[step]
            assert set(here) == {"features", "label"}
            np.testing.assert_array_equal(np.asarray(there["features"]), here["features"])
            np.testing.assert_array_equal(here["features"], data.features[here["label"]])
        with pytest.raises(InputError, match="pictures"):
            Batches(data, 10, training=True, binarize="dynamic")

    def test_scaling_does_not_matter_and_constants_count_for_nothing(self):
        rows = plane(300, 0)
        rows[:, 3] = 4.0
        detector = make((8,), 2, "features", default="reconstruction")
        constant = detector.start_from(FeatureData("plane", rows))
        np.testing.assert_array_equal(constant, [3])
        standard = detector.standardised(FeatureData("plane", rows))
        np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(standard.std(axis=0), np.arange(8) != 3, atol=1e-4)
        changed = rows.copy()
        changed[:, 3] = -1e6
        some = FeatureData("plane", rows), FeatureData("plane", changed)
        np.testing.assert_array_equal(detector.score(some[0]), detector.score(some[1]))


# --- the app -----------------------------------------------------------------------------------

TINY = ["--epochs", "30", "--hidden", "32"]


def parts(here, arguments) -> tuple[int, str, str]:
    done = here("apps.detect", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "zeros"
    done = run("apps.detect", "train", "--normal-class", "0", "--out", out, *TINY)
    assert done.returncode == 0, done.stderr
    return out, done


def read_csv(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class TestApp:
    def test_train_leaves_what_it_promises(self, finished, digits):
        out, done = finished
        for name in ("scores.png", "examples.png", "curves.png"):
            with Image.open(out / name) as picture:
                assert np.asarray(picture.convert("L")).std() > 5, name
        rows = read_csv(out / "scores.csv")
        assert len(rows) == len(digits.test)
        assert [int(row["class"]) for row in rows] == list(digits.test.labels)
        detector = load_model(out / "model.keras")
        expected = detector.scores(digits.test)
        for name in detector.names:
            np.testing.assert_allclose([float(row[name]) for row in rows], expected[name], rtol=1e-4)
        auroc = roc_auc_score(digits.test.labels != 0, expected["relative"])
        assert f"relative (default), AUROC / AUPR: {auroc:.4f}" in done.stdout
        for name in ("PCA reconstruction", "isolation forest", "one-class SVM", "code", "bound"):
            assert f"{name}, AUROC / AUPR: " in done.stdout
        assert "false positives on held-out normal data" in done.stdout
        assert f"python -m apps.detect run pictures/ --run {out}" in done.stdout.splitlines()[-1]

    def test_run_on_pictures(self, finished, digits, tmp_path, here):
        folder = tmp_path / "pictures"
        folder.mkdir()
        for i, image in enumerate(digits.test.images[:6]):
            Image.fromarray(image[..., 0]).save(folder / f"{i}.png")
        Image.new("CMYK", (30, 20), (0, 200, 50, 0)).save(folder / "print.jpg")
        frames = [Image.new("L", (3, 3), c) for c in (10, 250)]
        frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
        (folder / "broken.png").write_bytes(b"x")
        np.savez(tmp_path / "more.npz", images=np.repeat(digits.test.images[:3], 3, axis=-1))
        out = tmp_path / "found" / "table.csv"
        arguments = ["run", folder, tmp_path / "more.npz", "--run", finished[0], "--out", out]
        code, text, err = parts(here, arguments)
        assert code == 0, err
        assert "broken.png" in err and " of 11 above the threshold" in text
        rows = {Path(row["file"]).name: row for row in read_csv(out)}
        assert {"0.png", "print.jpg", "moving.gif", "more.npz[2]"} <= set(rows) and len(rows) == 11
        detector = load_model(finished[0] / "model.keras")
        expected = detector.score(digits.test)
        for i in range(6):
            assert float(rows[f"{i}.png"]["score"]) == pytest.approx(expected[i], rel=1e-5)
            assert (rows[f"{i}.png"]["verdict"] == "anomaly") == (expected[i] > detector.threshold)
        for i in range(3):  # the same pictures, in colour and from an array
            assert float(rows[f"more.npz[{i}]"]["score"]) == pytest.approx(expected[i], rel=1e-4)
        scores = [float(row["score"]) for row in read_csv(out)]
        assert scores == sorted(scores, reverse=True)
        assert len(list((out.parent / "table-heat-maps").glob("*.png"))) == 11

    @pytest.mark.once
    def test_run_refuses(self, finished, tmp_path, here):
        (tmp_path / "broken.png").write_bytes(b"x")
        (tmp_path / "empty").mkdir()
        for arguments, message in (
            ([tmp_path / "none.png"], "existing file or folder"),
            ([tmp_path / "empty"], "has none"),
            ([tmp_path / "broken.png"], "1 unreadable files"),
            ([], "Received: none"),
        ):
            code, _, err = parts(here, ["run", *arguments, "--run", finished[0]])
            assert code == 2 and f"{message}" in err, err
        code, _, err = parts(here, ["run", tmp_path, "--run", tmp_path])
        assert code == 2 and "config.json" in err

    @pytest.mark.once
    def test_tables_from_end_to_end(self, tmp_path, monkeypatch, here):
        monkeypatch.setattr("keras_gen.export.can_export", lambda: False)  # done once, above
        rows = plane(400, 0)
        noise = np.random.default_rng(0).standard_normal((100, 8))
        strange = rows[:100] + 2 * rows.std(axis=0) * noise
        lines = ["id,flat," + ",".join(f"c{i}" for i in range(8)) + ",state"]
        for n, (state, row) in enumerate([("fine", r) for r in rows] + [("odd", r) for r in strange]):
            lines.append(f"x{n},3," + ",".join(f"{v:.6g}" for v in row) + f",{state}")
        (tmp_path / "t.csv").write_text("\n".join(lines))
        options = ["--data", tmp_path / "t.csv", "--label-column", "state", "--ignore", "id", *TINY]
        out = tmp_path / "r"
        code, text, err = parts(here, ["train", *options, "--normal-class", "fine", "--out", out])
        assert code == 0, err
        assert "left out of every score: flat" in err
        auroc = float(text.split("reconstruction (default), AUROC / AUPR: ")[1].split(" ")[0])
        assert auroc > 0.9
        columns = lines[0].split(",")[1:-1]
        shuffled = np.random.default_rng(0).permutation(len(columns))
        body = [[columns[j] for j in shuffled]]
        values = np.concatenate([[3.0], rows[0]])
        values[4] += 100 * rows[:, 3].std()  # c3
        body += [[f"{values[j]:.6g}" for j in shuffled]]
        (tmp_path / "new.csv").write_text("\n".join(map(",".join, body)))
        code, _, err = parts(here, ["run", tmp_path / "new.csv", "--run", out, "--out", tmp_path / "s.csv"])
        assert code == 0, err
        (row,) = read_csv(tmp_path / "s.csv")
        assert row["verdict"] == "anomaly" and row["where"] == "c3"
        (tmp_path / "less.csv").write_text("c0,c1\n1,2\n")
        code, _, err = parts(here, ["run", tmp_path / "less.csv", "--run", out])
        assert code == 2 and "without flat, c2" in err

    @pytest.mark.once
    def test_benchmark(self, tmp_path, here):
        out = tmp_path / "b"
        options = ["--classes", "0", "1", "--epochs", "5", "--hidden", "16", "--limit", "400", "--out", out]
        code, text, err = parts(here, ["benchmark", *options])
        assert code == 0, err
        rows = read_csv(out / "benchmark.csv")
        assert {row["normal"] for row in rows} == {"0", "1"} and len(rows) == 14
        table = (out / "benchmark.md").read_text()
        assert table in text
        means = [float(c) for c in table.splitlines()[-1].split("|")[2:-1]]
        own = [100 * float(r["auroc"]) for r in rows if r["score"] == "PCA reconstruction"]
        assert means[4] == pytest.approx(np.mean(own), abs=0.01)
        code, again, err = parts(here, ["benchmark", "--resume", out])
        assert code == 0 and table in again, err

    @pytest.mark.once
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--normal-class", "eleven"], "by name or index. Received: 'eleven'"),
            (["--normal-class", "3", "--limit", "60"], "normal pictures to train on"),
            (["--false-positive-rate", "0"], "between 0 and 1"),
            (["--false-positive-rate", "0.001", "--normal-class", "1"], "allow a higher rate"),
            (["--network", "conv"], "at least 8 pixels a side"),
            (["--label-column", "x"], "Expected a .csv"),
            (["--score", "relative", "--latent-dim", "0"], "latent_dim of 1"),
            (["benchmark", "--seeds", "0"], "seeds of 1"),
        ],
    )
    def test_refuses(self, arguments, message, tmp_path, monkeypatch, here):
        if "conv" in arguments:
            rng = np.random.default_rng(0)
            np.savez(tmp_path / "small.npz", rng.integers(0, 256, (99, 5, 5), "uint8"))
            arguments = [*arguments, "--data", tmp_path / "small.npz"]
        monkeypatch.chdir(tmp_path)
        code, _, err = parts(here, arguments)
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 2 and len(lines) == 1 and message in lines[0], err
        assert not (tmp_path / "runs").exists()

    @pytest.mark.once
    def test_data_without_classes(self, tmp_path, monkeypatch, here):
        np.savez(tmp_path / "x.npz", np.random.default_rng(0).integers(0, 256, (99, 5, 5), "uint8"))
        for command in (["--normal-class", "0"], ["benchmark"]):
            code, _, err = parts(here, [*command, "--data", tmp_path / "x.npz"])
            assert code == 2 and "Expected data with classes" in err
        out = tmp_path / "r"
        monkeypatch.setattr("keras_gen.export.can_export", lambda: False)
        code, text, err = parts(here, ["--data", tmp_path / "x.npz", "--out", out, *TINY])
        assert code == 0 and "no AUROC" in text, err
        assert "AUROC /" not in text and "false positives" in text


def test_image_data_stays_what_it_was():
    data = ImageData("x", np.arange(48, dtype="uint8").reshape(3, 4, 4, 1))
    np.testing.assert_allclose(data.floats(), data.images / 127.5 - 1, atol=1e-6)
    assert (data.key, data.shape, len(data)) == ("image", (4, 4, 1), 3)
