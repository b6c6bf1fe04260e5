"""Fréchet distance between two sets of feature vectors: features in, number out, in float64.

The distance between two samples of N pictures from one distribution is not zero. It falls like N^-½
and is still large for a few hundred pictures. Distances can therefore be compared only at equal N,
and only with their floor: the distance between two samples of real pictures.
"""

import numpy as np


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance between Gaussians fitted to a (n×d) and b (m×d); n, m ≥ 2.

    ‖μ₁ − μ₂‖² + Tr Σ₁ + Tr Σ₂ − 2 Tr (Σ₁Σ₂)^½: Dowson & Landau 1982; Heusel et al. 2017, eq. 6.

    With Σ₁ = AᵀA and Σ₂ = BᵀB, Σ₁Σ₂ has the eigenvalues of (ABᵀ)(ABᵀ)ᵀ, so the last trace is the
    sum of the singular values of ABᵀ. This needs no matrix root. It is much faster than `sqrtm`,
    and exact for a rank-deficient Σ₁Σ₂ (any n < d), for which `sqrtm` is not.
    """
    (mean_a, A), (mean_b, B) = _gaussian(a), _gaussian(b)
    apart = np.sum((mean_a - mean_b) ** 2)
    return float(apart + np.sum(A**2) + np.sum(B**2) - 2 * np.linalg.norm(A @ B.T, "nuc"))


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d) of n×d features, and a min(n, d)×d matrix A with AᵀA their covariance (n − 1)."""
    mean = features.mean(axis=0, dtype=np.float64)
    centred = (features - mean) / np.sqrt(len(features) - 1)
    if len(features) > features.shape[1]:
        # If A = QR, then AᵀA = RᵀR, and R has only d rows.
        centred = np.linalg.qr(centred, mode="r")
    return mean, centred
