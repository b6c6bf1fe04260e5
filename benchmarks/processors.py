"""Which operation's bits another processor changes: python benchmarks/processors.py [CPU …]

Hashes everything in one training step of the embedded run, on this processor and on each CPU that
qemu emulates (apt-get install qemu-user; minutes each), and prints where each first differs from
the first of them. To be run after dvc repro: the step is of its augmented and class pictures.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
import stages  # noqa: F401  the pins, before torch is imported

CPUS = ("Haswell", "Skylake-Client", "EPYC-Rome")  # `qemu-x86_64 -cpu help` names more
PICTURES = 8  # of a kind: emulated, four take half a minute


def main(cpus: list[str]) -> None:
    traces: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        commands = {f"emulated {cpu}": ["qemu-x86_64", "-cpu", cpu] for cpu in cpus}
        for name, emulator in {**commands, own(): []}.items():
            out = Path(folder, name)
            subprocess.run([*emulator, sys.executable, __file__, "--trace", out], check=True)
            traces[name] = out.read_text().splitlines()
    (reference, expected), *_ = traces.items()
    print(f"\n| processor | against {reference} |\n|---|---|")
    for name, found in traces.items():
        differ = [one for one, other in zip(found, expected, strict=True) if one != other]
        said = f"{len(differ)} differ, the first: {differ[0]}" if differ else "equal"
        print(f"| {name} | {said}, of {len(found)} |")


def own() -> str:
    """Name, family and model of the processor at hand, as the kernel has them."""
    rows = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    known = {key.strip(): value.strip() for key, _, value in rows}
    return f"{known['model name']}, family {known['cpu family']}, model {known['model']}"


def trace() -> Iterator[str]:
    """A line of name and SHA-256 for each latent, activation, gradient and weight of a step."""
    import torch

    from mpox import params
    from mpox.core import listing
    from mpox.model import base, concepts
    from mpox.model.concepts import Lesson
    from mpox.training.learner import Learner, make_accelerator

    def line(name: str, value: torch.Tensor) -> str:
        content = value.detach().contiguous().numpy().tobytes()
        return f"{name} {hashlib.sha256(content).hexdigest()[:12]}"

    p = params.read(ROOT / "params.yaml", params.Params)
    train, prior = p.train, p.train.prior_preservation
    pipeline = base.load(ROOT / p.model.path, p.resolution)
    folder = "data/augmented"
    files = listing.find(ROOT / folder)[0][:PICTURES]
    captions = [train.instance_prompt] * len(files)
    photos = concepts.encode(pipeline, files, captions, p.resolution, p.seed, folder)
    yield line(f"latents of {folder}", photos.posterior.mean)
    yield line(f"text of {folder}", photos.states)
    unconditional = photos.without_caption("base prediction")
    lessons = [
        Lesson(photos, train.batch_size),
        Lesson(unconditional, prior.batch_size, prior.weight, "base_prediction"),
    ]
    learner = Learner(pipeline.unet, train, make_accelerator(train), p.seed)
    lines: list[str] = []

    def note(name: str, value: object) -> None:
        if torch.is_tensor(value):
            lines.append(line(name, value))

    for name, module in learner.unet.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda m, i, out, n=name: note(f"output of {n}", out))
            module.register_full_backward_hook(
                lambda m, i, out, n=name: note(f"gradient of {n}", out[0])
            )
    _, value = next(learner.steps(lessons))
    yield from lines
    yield line("loss", value)
    for name, weights in learner.unet.named_parameters():
        if weights.requires_grad:
            yield line(f"weights of {name}", weights)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trace"]:
        Path(sys.argv[2]).write_text("".join(f"{one}\n" for one in trace()))
    else:
        main(sys.argv[1:] or list(CPUS))
