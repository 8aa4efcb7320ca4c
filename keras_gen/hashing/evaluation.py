"""How good a ranking by Hamming distance is, by labels that no hash has seen."""

import numpy as np

from keras_gen.errors import InputError
from keras_gen.hashing.codes import distances, to_words


def average_precisions(
    queries: np.ndarray, query_labels: np.ndarray, database: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """The average precision of each query over the ranking of the whole database, (q,).

    Few distances among many codes leave most of a ranking to how ties are broken. Reported is the
    expectation over all orders of the tied (McSherry & Najork 2008, Computing information retrieval
    performance measures efficiently in the presence of tied scores, section 2.3), which no order of
    the database can flatter.

    Args:
        queries, database: Packed codes, (q, b) and (n, b), of one length.
        query_labels, labels: (q,) and (n,); relevant is what has the query's label. A query
            without any gives NaN.
    """
    queries, database = np.asarray(queries), np.asarray(database)
    if queries.shape[1:] != database.shape[1:] or not len(database):
        raise InputError(
            f"Expected packed codes of one length and a database. Received: {queries.shape} and "
            f"{database.shape}."
        )
    words, levels = to_words(database), 8 * database.shape[1] + 1
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, len(database) + 1))])
    out = np.empty(len(queries))
    for i, (query, label) in enumerate(zip(to_words(queries), query_labels, strict=True)):
        away = distances(words, query)
        tied = np.bincount(away, minlength=levels)
        relevant = np.bincount(away[labels == label], minlength=levels)
        out[i] = _expected_average_precision(tied, relevant, harmonic)
    return out


def _expected_average_precision(tied, relevant, harmonic) -> float:
    """`tied[d]` examples at distance d, `relevant[d]` of them relevant.

    The j-th of t tied, behind n others of which r were relevant, is relevant with probability p =
    relevant / t, and then expects r + 1 + (j - 1) (relevant - 1) / (t - 1) relevant up to itself
    among n + j. Summed over j with the harmonic numbers.
    """
    total = relevant.sum()
    if not total:
        return float("nan")
    some = relevant > 0
    before, found = (np.cumsum(tied) - tied)[some], (np.cumsum(relevant) - relevant)[some]
    tied, relevant = tied[some], relevant[some]
    inverses = harmonic[before + tied] - harmonic[before]  # sum of 1 / (n + j)
    slope = (relevant - 1) / np.maximum(tied - 1, 1)
    sums = (found + 1) * inverses + slope * (tied - (before + 1) * inverses)
    return float((relevant / tied * sums).sum() / total)


def mean_average_precision(queries, query_labels, database, labels) -> float:
    """The mean of `average_precisions` over the queries that have something to find."""
    return float(np.nanmean(average_precisions(queries, query_labels, database, labels)))
