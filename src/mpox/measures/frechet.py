"""Fréchet distance between two sets of feature vectors: features in, number out, in float64.

The distance of N pictures from N others of the very same kind is not zero: it falls like N^-½ and
is still large at a few hundred. So it compares only at equal N, and means something only beside
its floor, the same distance of real pictures from real ones.
"""

import numpy as np


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance between Gaussians fitted to a (n×d) and b (m×d); n, m ≥ 2.

    ‖μ₁ − μ₂‖² + Tr Σ₁ + Tr Σ₂ − 2 Tr (Σ₁Σ₂)^½: Dowson & Landau 1982; Heusel et al. 2017, eq. 6.

    With Σ₁ = AᵀA and Σ₂ = BᵀB, Σ₁Σ₂ has the eigenvalues of (ABᵀ)(ABᵀ)ᵀ, so the last trace is the
    sum of the singular values of ABᵀ. No covariance is formed and no matrix root is taken, which
    is exact where `sqrtm` of a rank-deficient Σ₁Σ₂ (every n < d) is not, and much faster.
    """
    (mean_a, A), (mean_b, B) = _gaussian(a), _gaussian(b)
    apart = np.sum((mean_a - mean_b) ** 2)
    return float(apart + np.sum(A**2) + np.sum(B**2) - 2 * np.linalg.norm(A @ B.T, "nuc"))


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d) of n×d features, and a min(n, d)×d matrix A with AᵀA their covariance (n − 1)."""
    mean = features.mean(axis=0, dtype=np.float64)
    centred = (features - mean) / np.sqrt(len(features) - 1)
    if len(features) > features.shape[1]:
        # of A = QR, Q drops out of AᵀA: what follows costs as if there were d rows
        centred = np.linalg.qr(centred, mode="r")
    return mean, centred
