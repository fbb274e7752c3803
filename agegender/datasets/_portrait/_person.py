"""Who is drawn: what an age and a gender make of somebody, with chance having its say in everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Colour: TypeAlias = tuple[float, float, float]

SKIN = ((252, 216, 190), (242, 198, 164), (228, 178, 136), (203, 143, 102), (158, 102, 68), (112, 72, 52))
HAIR = ((34, 29, 30), (61, 41, 31), (96, 62, 38), (139, 94, 54), (196, 152, 92), (228, 196, 138))
RED_HAIR = (164, 78, 38)
GREY_HAIR = (206, 205, 204)
IRIS = ((78, 52, 34), (96, 66, 38), (104, 96, 54), (86, 118, 92), (84, 122, 158), (110, 130, 146))
ROSE = (196, 84, 88)
SOBER_CLOTHES = ((54, 70, 98), (120, 54, 58), (72, 104, 82), (196, 190, 180), (58, 58, 64), (150, 120, 84))
BRIGHT_CLOTHES = ((214, 120, 140), (240, 196, 110), (120, 180, 210), (150, 200, 160), (232, 226, 218))


@dataclass(frozen=True)
class Shape:
    """Proportions of a head, in half widths of a grown-up's face; y runs down from the middle of the head."""

    width: float
    top: float
    jaw: float
    chin: float
    length: float
    sag: float
    eye_line: float
    eye_gap: float
    eye_width: float
    eye_open: float
    eye_droop: float
    brow_height: float
    brow: float
    nose_length: float
    nose_width: float
    mouth_drop: float
    mouth_width: float
    lips: float
    neck: float
    shoulders: float
    ears: float


@dataclass(frozen=True)
class Hair:
    """A head of hair; `receded` and `parting` are shares of the forehead's height and half width."""

    style: str
    colour: Colour
    grey: float
    length: float
    volume: float
    density: float
    receded: float
    fringe: float
    parting: float
    beard: str
    shadow: float
    brow_colour: Colour


@dataclass(frozen=True)
class Surface:
    """What is seen on a skin, and what is put on it."""

    skin: Colour
    lips: Colour
    iris: Colour
    wrinkles: float
    mottle: float
    freckles: int
    spots: int
    blush: float
    lashes: float
    eye_shadow: float


@dataclass(frozen=True)
class Person:
    """Everything that a portrait shows of somebody."""

    childhood: float
    shape: Shape
    hair: Hair
    surface: Surface
    smile: float
    teeth: bool
    glasses: str
    earrings: bool
    collar: str
    clothes: Colour


@dataclass(frozen=True)
class Look:
    """What the eye is told: near the truth, and not the truth.

    Parameters
    ----------
    years : float
        The age that somebody looks.
    childhood : float
        1 at birth, falling to 0 when grown up.
    grown : float
        0 before puberty, 1 after it.
    wear : float
        0 in the twenties, about 1 at 90.
    feminine : float
        0…1 of the features, which overlap between the genders, in children the most.
    woman : bool
        What dress and hair follow; not always the features.
    """

    years: float
    childhood: float
    grown: float
    wear: float
    feminine: float
    woman: bool


def between(low: float, high: float, share: float) -> float:
    """Go from `low` to `high` by a share that is kept within 0…1."""
    return low + (high - low) * min(1.0, max(0.0, share))


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Mix two colours."""
    red, green, blue = (between(a, b, share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Scale a colour's brightness."""
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return red, green, blue


def along(palette: tuple[Colour, ...], place: float) -> Colour:
    """Look up a colour between a palette's ends, 0…1."""
    position = between(0, len(palette) - 1, place)
    first = min(int(position), len(palette) - 2)
    return mix(palette[first], palette[first + 1], position - first)


def pick(palette: tuple[Colour, ...], rng: np.random.Generator) -> Colour:
    """Take one of the colours."""
    return palette[int(rng.integers(len(palette)))]


def imagine(age: int, gender: int, rng: np.random.Generator) -> Person:
    """Make up a person of an age (years) and a gender (0 male, 1 female)."""
    look = _look(age, gender, rng)
    tone = float(rng.beta(1.3, 2.0))
    skin = shade(along(SKIN, tone), 1 + rng.normal(0, 0.025))
    skin = mix(skin, (214, 188, 170), 0.2 * look.wear)
    palette = (
        BRIGHT_CLOTHES
        if rng.random() < between(0.2, 0.75, look.childhood + 0.4 * look.woman)
        else SOBER_CLOTHES
    )
    return Person(
        childhood=look.childhood,
        shape=_shape(look, rng),
        hair=_hair(look, skin, tone, rng),
        surface=_surface(look, skin, tone, rng),
        smile=float(np.clip(rng.normal(0.45, 0.3), -0.15, 1)),
        teeth=bool(rng.random() < 0.25 and look.years > 2),
        glasses=_glasses(look, rng),
        earrings=bool(look.woman and look.years > 8 and rng.random() < 0.45),
        collar=_collar(look, rng),
        clothes=shade(pick(palette, rng), rng.uniform(0.8, 1.1)),
    )


def _look(age: int, gender: int, rng: np.random.Generator) -> Look:
    years = max(0.0, age + rng.normal(0, 0.5 + 0.05 * age))
    grown = between(0, 1, (years - 11) / 8)
    feminine = between(0, 1, 0.5 + (gender - 0.5) * between(0.6, 0.85, grown) + rng.normal(0, 0.19))
    return Look(
        years=years,
        childhood=float(np.exp(-((years / 9.5) ** 1.35))),
        grown=grown,
        wear=between(0, 1, (years - 24) / 64) ** 1.2,
        feminine=feminine,
        woman=bool(rng.random() < between(0.04, 0.96, (feminine - 0.2) / 0.6)),
    )


def _shape(look: Look, rng: np.random.Generator) -> Shape:
    child, wear = look.childhood, look.wear
    soft = between(look.feminine, 0.75, child)

    def about(value: float, spread: float) -> float:
        return float(value * (1 + rng.normal(0, spread)))

    return Shape(
        width=about(between(1.0, 1.1, child) - 0.06 * soft * (1 - child), 0.025),
        top=about(1.34, 0.02),
        jaw=about(between(0.84, 0.7, soft) + 0.02 * child, 0.04),
        chin=about(between(0.42, 0.27, soft), 0.07),
        length=about(between(1.42, 1.17, child) - 0.07 * soft * (1 - child), 0.025),
        sag=between(0, 0.13, wear) * rng.uniform(0.6, 1.4),
        eye_line=about(between(0.02, 0.24, child), 0.02) + rng.normal(0, 0.015),
        eye_gap=about(between(0.435, 0.45, child), 0.03),
        eye_width=about(between(0.215, 0.25, child) + 0.012 * soft, 0.04),
        eye_open=about(between(0.088, 0.15, child) + 0.018 * soft - 0.022 * wear, 0.09),
        eye_droop=between(0, 0.05, wear) + rng.normal(0, 0.012),
        brow_height=about(between(0.21, 0.3, child) + 0.05 * soft - 0.02 * wear, 0.07),
        brow=about(between(0.075, 0.035, soft) - 0.02 * child, 0.15),
        nose_length=about(between(0.66, 0.4, child) - 0.05 * soft * (1 - child) + 0.07 * wear, 0.045),
        nose_width=about(between(0.25, 0.19, child) - 0.035 * soft * (1 - child) + 0.03 * wear, 0.08),
        mouth_drop=about(between(1.0, 0.67, child) - 0.05 * soft * (1 - child) + 0.05 * wear, 0.025),
        mouth_width=about(between(0.37, 0.25, child), 0.06),
        lips=about(between(0.1, 0.135, soft) * between(1, 0.72, child) * between(1, 0.5, wear), 0.12),
        neck=about(between(0.74, 0.55, soft) * between(1, 0.82, child), 0.04),
        shoulders=about(between(2.35, 1.95, soft) * between(1, 0.72, child), 0.05),
        ears=about(between(0.29, 0.3, child) + 0.07 * wear, 0.08),
    )


def _hair(look: Look, skin: Colour, tone: float, rng: np.random.Generator) -> Hair:
    colour = _hair_colour(look, tone, rng)
    grey = between(0, 1, (look.years - rng.normal(38, 7)) / 32)
    if look.woman and look.years > 35 and rng.random() < 0.15:
        grey *= 0.15  # dyed
    thinning = 0.5 * look.wear
    style, length = _style(look, rng)
    receded = 0.08 * look.wear
    if not look.woman:
        thinning = receded = between(0, 1, (look.years - rng.normal(28, 8)) / 42) * rng.beta(1.6, 1.1)
    has_fringe = rng.random() < (0.4 if look.woman or look.childhood > 0.3 else 0.12)
    beard, shadow = _beard(look, rng)
    return Hair(
        style=style,
        colour=colour,
        grey=grey,
        length=length,
        volume=rng.uniform(0.7, 1.25) * between(1, 0.72, look.wear) * (1.15 if look.woman else 0.9),
        density=between(0.3, 1, look.years / 1.8) * between(1, 0.6, thinning),
        receded=receded + 0.25 * max(0.0, 1 - look.years / 1.5),
        fringe=rng.uniform(0.2, 0.55) if has_fringe else 0.0,
        parting=float(rng.choice([-1, 1]) * rng.uniform(0.05, 0.6)),
        beard=beard,
        shadow=shadow,
        brow_colour=mix(mix(shade(colour, 0.85), skin, 0.1 + 0.4 * look.childhood), GREY_HAIR, 0.65 * grey),
    )


def _hair_colour(look: Look, tone: float, rng: np.random.Generator) -> Colour:
    natural = along(HAIR, between(0.62, 0.0, tone * 1.5) * rng.beta(1.6, 1.6) * 1.6)
    if tone < 0.4 and rng.random() < 0.07:
        natural = RED_HAIR
    fairer = mix(natural, (214, 180, 130), (0.45 - 0.4 * tone) * look.childhood)
    return shade(fairer, 1 + rng.normal(0, 0.05))


def _style(look: Look, rng: np.random.Generator) -> tuple[str, float]:
    if look.years < 1.8:
        return "fuzz", 0.0
    young = between(0, 1, 1 - (look.years - 45) / 35)
    if look.woman:
        shares = {"straight": 3, "wavy": 3, "curly": 1.5, "bob": 2, "updo": 2, "short": 4.6 - 4 * young}
        length = rng.uniform(1.5, 2.6) * between(0.72, 1, young)
    else:
        shares = {"short": 4, "swept": 3, "cropped": 2.2, "curls": 1.2, "straight": 0.45 * young}
        length = rng.uniform(1.0, 1.7)
    return _draw_lot(shares, rng), float(length)


def _draw_lot(shares: dict[str, float], rng: np.random.Generator) -> str:
    weights = np.array(list(shares.values()))
    return str(rng.choice(list(shares), p=weights / weights.sum()))


def _beard(look: Look, rng: np.random.Generator) -> tuple[str, float]:
    if look.woman or look.feminine > 0.7 or look.grown < 0.5:
        return "none", 0.0
    beard = _draw_lot({"none": 0.55, "full": 0.17, "stubble": 0.14, "goatee": 0.07, "moustache": 0.07}, rng)
    shadow = look.grown * between(0.5, 0.12, look.feminine) * rng.uniform(0.3, 1)
    return beard if look.years > 19 else "none", float(shadow)


def _surface(look: Look, skin: Colour, tone: float, rng: np.random.Generator) -> Surface:
    made_up = rng.uniform(0.3, 1) if look.woman and look.years > 15 and rng.random() < 0.7 else 0.0
    natural = mix(skin, ROSE, between(0.42, 0.28, tone) * between(1, 0.65, look.wear) + 0.08 * look.feminine)
    painted = along(((188, 50, 66), (206, 92, 104), (160, 60, 70), (214, 120, 110)), rng.random())
    return Surface(
        skin=skin,
        lips=mix(natural, painted, 0.75 * made_up),
        iris=along(IRIS, rng.beta(1.2, 1.4) * (1 - tone) ** 0.7),
        wrinkles=look.wear * rng.uniform(0.75, 1.25) + 0.015,
        mottle=0.012 + 0.05 * look.wear * rng.uniform(0.7, 1.3),
        freckles=int(rng.poisson(45)) if tone < 0.35 and 4 < look.years < 50 and rng.random() < 0.15 else 0,
        spots=int(rng.poisson(13 * max(0.0, look.wear - 0.35))),
        blush=between(0.25, 1, look.childhood) + 0.35 * made_up,
        lashes=between(0.25, 0.7, look.feminine) * between(1, 0.6, look.wear) + 0.5 * made_up,
        eye_shadow=made_up * rng.uniform(0, 1),
    )


def _glasses(look: Look, rng: np.random.Generator) -> str:
    share = 0.04 if look.years < 10 else between(0.15, 0.45, (look.years - 15) / 55)
    return str(rng.choice(["round", "square"])) if look.years > 4 and rng.random() < share else "none"


def _collar(look: Look, rng: np.random.Generator) -> str:
    if look.years < 4:
        return "crew"
    shares = (0.3, 0.5, 0.08, 0.12) if look.woman else (0.4, 0.12, 0.48, 0.0)
    return str(rng.choice(["crew", "neckline", "shirt", "necklace"], p=shares))
