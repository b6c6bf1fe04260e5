"""What a phantom is called in the captions that the small base is pretrained on."""

# The plainest word first; every kind but mpox has the same number of names.
NAMES = {
    "mpox": ("a monkeypox skin lesion",),
    "vesicle": ("vesicles", "a group of blisters", "herpes vesicles on the skin"),
    "acne": ("acne", "inflamed pimples", "acne papules and pustules on the skin"),
    "naevus": ("a naevus", "a brown mole", "a pigmented naevus on the skin"),
    "plaque": ("a plaque", "a red scaly plaque", "a psoriasis plaque on the skin"),
    "healthy": ("healthy skin", "normal skin", "clear healthy skin without lesions"),
}
ANY_LESION, ANY_SKIN = "a skin lesion", "skin"  # a further name of the lesions but mpox; of healthy
TEMPLATES = ("clinical photo of {}", "photo of {}", "a close-up photo of {}", "{}")
TONES = ("very light skin", "light skin", "medium brown skin", "dark skin", "very dark skin")


def captions(kind: str, tone: float) -> tuple[str, ...]:
    """Every wording for a picture, first without, then with the skin tone (0 light … 1 dark)."""
    names = NAMES[kind]
    if kind != "mpox":
        names += (ANY_SKIN if kind == "healthy" else ANY_LESION,)
    plain = [template.format(name) for template in TEMPLATES for name in names]
    tone_name = TONES[min(int(tone * len(TONES)), len(TONES) - 1)]
    return (*plain, *(f"{wording}, {tone_name}" for wording in plain))
