"""One call from batches to a trained model, resumable at every checkpoint."""

from collections.abc import Sequence

import keras

from keras_gen.data import Batches
from keras_gen.errors import InputError
from keras_gen.training.callbacks import Interruptible, Keeper, LossRows, ProgressReport, SetEpoch
from keras_gen.training.checkpoint import Checkpoints
from keras_gen.training.run import Run


def train(
    model: keras.Model,
    train_batches: Batches,
    test_batches: Batches,
    run: Run,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train a compiled model to `epochs` epochs in all, from the run's newest checkpoint.

    Order of data, noise and optimizer state continue where they were: an interrupted and resumed
    run ends with the same bits as an uninterrupted one on the same backend and machine.

    Raises:
        InputError: An epoch is not a whole number of executions, or the run has seen more epochs.
        TrainingError: A loss is not finite. The model is set back to the last good state.
        OSError: The disk is full; the checkpoint before stays.
    """
    if len(train_batches) % model.steps_per_execution:
        raise InputError(
            f"Expected steps_per_execution to divide the {len(train_batches)} steps of an epoch. "
            f"Received: {model.steps_per_execution}."
        )
    checkpoints = Checkpoints(run.path / "checkpoints")
    if checkpoints.paths():
        done = checkpoints.restore(model)
    else:
        done = 0
        checkpoints.save(model, 0)
    if done > epochs:
        raise InputError(
            f"Expected {done} epochs or more, which {run.path} has seen already. Received: {epochs}."
        )
    if done == epochs:
        return
    rows = [row for row in run.rows() if row["epoch"] <= done]
    if rows:
        run.write_rows(rows)
    else:
        (run.path / "metrics.csv").unlink(missing_ok=True)
    progress = ProgressReport(epochs, done, len(train_batches))
    try:
        with Interruptible() as interruptible:
            model.fit(
                train_batches.stream(first_epoch=done),
                steps_per_epoch=len(train_batches),
                validation_data=test_batches.stream(),
                shuffle=False,  # the batches see to that
                epochs=epochs,
                initial_epoch=done,
                verbose=0,
                callbacks=[
                    SetEpoch(train_batches),
                    LossRows(rows),
                    progress,
                    *callbacks,
                    Keeper(run, checkpoints, rows, epochs),
                    interruptible,
                ],
            )
    except BaseException:
        # also after Ctrl-C: whoever goes on with the model holds a state that was written
        checkpoints.restore(model)
        raise
    finally:
        progress.stop()
