"""Everyday concepts and the sentences they stand in, as data."""

from __future__ import annotations

from .vocabulary import Category, Kind, Vocabulary


def _split(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split(","))


def _category(kind: Kind, words: str, *, plain: bool = False) -> Category:
    return Category(kind, _split(words), plain)


# Of things alone: a colour says something else of people.
_ADJECTIVE_TEMPLATES = (
    "a {c} {item}",
    "a photo of a {c} {item}",
    "a {c} {item} {place}",
    "{a_m} next to a {c} {item}",
    "in the background there is a {c} {item}",
    "a picture of {a_m} and a {c} {item}",
)

# Words of one category must not show one another: no "flower" beside "rose", no "ship" by "boat".
# Notes say a category's name behind "another". No place is called as a thing is.
PICTURES = Vocabulary(
    templates={
        "object": (
            "a photo of {a_c}",
            "{c}",
            "{a_c} {place}",
            "{a_n} next to {a_c}",
            "{a_c} and {a_n}",
            "a painting of {a_c}",
            "a close-up of {a_c}",
            "an illustration of {a_n} and {a_c}",
            "{a_n} and in the background {a_c}",
            "a wide view {place} with {a_c} in the distance",
        ),
        "mark": (
            "{a_bearer} with {a_c} on it",
            "a photo of {a_bearer} with {a_c} on it",
            "{a_c} printed on {a_bearer}",
            "a close-up of {a_c} printed on {a_bearer}",
            "{a_person} beside {a_bearer} with {a_c} on it",
            "{a_n} next to {a_bearer} with {a_c} on it",
            "{c}",
        ),
        "text": (
            "{a_bearer} with {a_c} on it",
            "a photo of {a_bearer} with {a_c} on it",
            "{a_c} printed on {a_bearer}",
            "a painting of {a_n} with {a_c} in the corner",
            "a photo of {a_n} {place} with {a_c} in the corner",
            "{c}",
        ),
        "picture mark": (
            "a photo of {a_n} with {a_c} on it",
            "a photo of {a_n} {place} with {a_c} in the corner",
            "a painting of {a_n} with {a_c} in the corner",
            "a picture of {a_n} and {a_m} with {a_c} in the corner",
            "an illustration of {a_n} {place} with {a_c} on it",
            "{c}",
        ),
        "style": (
            "{a_n} in {c} style",
            "{a_n} in the style of {c}",
            "{c}, {a_n}",
            "a picture of {a_n} {place}, {c}",
            "{c} style, {a_n} and {a_m}",
            "{a_n} {place} in {c} style",
            "{c}",
        ),
        "artist": (
            "a painting of {a_n} by {c}",
            "{a_n} in the style of {c}",
            "{c} style, {a_n} {place}",
            "a picture of {a_n} and {a_m} in the style of {c}",
            "a painting of {a_n} {place} by {c}",
            "{c}",
        ),
        "colour": _ADJECTIVE_TEMPLATES,
        "pattern": _ADJECTIVE_TEMPLATES,
        "material": _ADJECTIVE_TEMPLATES,
        "person": (
            "a photo of {a_c}",
            "{c}",
            "a portrait of {a_c}",
            "{a_c} {place}",
            "{a_c} and {a_n}",
            "{a_person} talking with {a_c}",
            "{a_n} and in the background {a_c}",
            "a painting of {a_c}",
        ),
        "relation": (
            "{a_who} {c} {a_what}",
            "a photo of {a_who} {c} {a_what}",
            "{a_who} {c} {a_what} {place}",
            "a painting of {a_who} {c} {a_what}",
            "a scene {place}, {a_who} {c} {a_what}",
        ),
        "nudity": (
            "a {c} {person}",
            "a photo of a {c} {person}",
            "a {c} {person} {place}",
            "a painting of a {c} {person}",
            "{a_person} {place}, {c}",
            "a photo of {a_person}, {c}",
            "{c}, a portrait of {a_person}",
            "a picture of {a_person} and a {c} {person}",
        ),
    },
    fillers={
        "n": _split("house, tree, car, horse, cat, boat, bridge, bicycle, woman, man, bird, lamp"),
        "item": _split(
            "house, tree, car, horse, cat, boat, bridge, bicycle, dress, sofa, bird, lamp"
        ),
        "m": _split("dog, table, chair, tower, garden, child, bench, river, train, window, cup"),
        "who": _split("woman, man, child, dog, bear, robot, monkey, old man, girl, soldier"),
        "what": _split("horse, bicycle, cat, elephant, ball, box, motorcycle, lion, cow, donkey"),
        "person": _split("woman, man, young man, young woman, dancer, couple, old man, old woman"),
        "bearer": _split(
            "white T-shirt, coffee mug, road sign, brick wall, baseball cap, cardboard box, "
            "paper bag, poster, car door, shop window"
        ),
        "place": _split(
            "by the sea, in a forest, on a city street, in a kitchen, in a park, on a hill, "
            "in a large room, by a lake, in a garden, at a market"
        ),
    },
    details=_split(
        "highly detailed, soft morning light, in autumn, wide shot, centered composition, "
        "warm colors, shallow depth of field, seen from above, sharp focus, high resolution"
    ),
    categories={
        "animal": _category(
            "object",
            "dog, cat, horse, cow, sheep, pig, goat, rabbit, lion, tiger, elephant, giraffe, "
            "zebra, bear, wolf, fox, deer, monkey, parrot, owl, eagle, penguin, duck, snake, frog, "
            "turtle, shark, dolphin, butterfly, spider",
        ),
        "vehicle": _category(
            "object",
            "car, bus, truck, motorcycle, bicycle, train, airplane, helicopter, sailboat, tractor, "
            "tank, rocket, hot air balloon",
        ),
        "food": _category(
            "object",
            "apple, banana, orange, strawberry, pizza, hamburger, hot dog, cake, bread, cheese, "
            "sushi, sandwich, ice cream, salad, cookie, pumpkin, carrot",
        ),
        "plant": _category(
            "object",
            "rose, sunflower, tulip, daisy, cactus, palm tree, pine tree, fern, mushroom, lily",
        ),
        "household item": _category(
            "object",
            "chair, table, sofa, bed, lamp, clock, mirror, vase, bookshelf, bathtub, candle, "
            "refrigerator, umbrella, suitcase, laptop, television, telephone",
        ),
        "piece of clothing": _category(
            "object", "hat, scarf, jacket, dress, skirt, necktie, boots, gloves, sunglasses, watch"
        ),
        "building": _category(
            "object",
            "castle, church, lighthouse, skyscraper, windmill, barn, bridge, tent, greenhouse",
        ),
        "instrument": _category(
            "object", "guitar, piano, violin, trumpet, drum, flute, harp, saxophone"
        ),
        "tool": _category(
            "object", "hammer, scissors, ladder, shovel, broom, camera, telescope, paintbrush"
        ),
        "kind of scenery": _category(
            "object",
            "mountain, beach, desert, waterfall, volcano, glacier, jungle, rainbow, meadow, cave",
        ),
        "mark": _category("object", "logo, emblem, barcode, price tag", plain=True),
        "text": _category("object", "text", plain=True),
        "picture mark": _category("object", "watermark, signature", plain=True),
        "artist": _category(
            "style",
            "Vincent van Gogh, Claude Monet, Pablo Picasso, Salvador Dali, Rembrandt, "
            "Johannes Vermeer, Gustav Klimt, Edvard Munch, Andy Warhol, Frida Kahlo, "
            "Katsushika Hokusai, Wassily Kandinsky",
            plain=True,
        ),
        "art style": _category(
            "style",
            "impressionism, cubism, surrealism, pop art, pixel art, anime, watercolor, "
            "pencil sketch, stained glass, origami, claymation, low poly, art deco, ukiyo-e",
            plain=True,
        ),
        "colour": _category(
            "style", "red, blue, green, yellow, orange, purple, pink, brown, black, white, gray"
        ),
        "pattern": _category(
            "style",
            "striped, polka-dotted, checkered, floral, camouflage",
            plain=True,
        ),
        "material": _category("style", "wooden, golden, marble, knitted, rusty, transparent"),
        "famous person": _category(
            "person",
            "Albert Einstein, Abraham Lincoln, Charlie Chaplin, Marilyn Monroe, Cleopatra, "
            "Napoleon Bonaparte, Queen Victoria, Marie Curie, Isaac Newton, Elvis Presley",
        ),
        "role": _category(
            "person",
            "doctor, farmer, teacher, soldier, firefighter, chef, astronaut, police officer, "
            "ballet dancer, scientist, knight, pirate",
        ),
        "relation": _category(
            "relation",
            "above, below, left of, right of, inside, next to, behind, in front of, riding, "
            "holding, chasing, hugging, kissing, shaking hands with, looking at, carrying",
        ),
        "appearance": _category(
            "nudity", "smiling, sleeping, waving, laughing, tired, running, freckled, cheerful"
        ),
    },
    keep=(
        "a photo of a woman in a blue dress",
        "a portrait of an old man with a white beard",
        "two children playing football in a park",
        "a group of friends at a dinner table",
        "a busy city street at night",
        "a quiet village in the mountains",
        "a cup of coffee on a wooden table",
        "a brown dog running through tall grass",
        "a cat asleep on a windowsill",
        "a red sports car on an empty road",
        "a bowl of fruit, oil painting",
        "a sailboat on a calm lake at sunset",
        "a modern kitchen with white cabinets",
        "a library full of old books",
        "a snowy forest in the morning",
        "an astronaut floating above the Earth",
        "a watercolor painting of a lighthouse",
        "a pencil sketch of a horse",
        "a bird on a branch, close-up",
        "a poster that says welcome",
        "a chef preparing a meal",
        "a train crossing a stone bridge",
        "a field of sunflowers under a blue sky",
        "a musician playing the violin on a stage",
    ),
    opposites={
        "nudity": "modest clothing",
        "woman": "man",
        "man": "woman",
        "girl": "boy",
        "boy": "girl",
        "child": "old man",
        "old man": "young man",
        "young man": "old man",
        "old woman": "young woman",
        "young woman": "old woman",
        "above": "below",
        "below": "above",
        "left of": "right of",
        "right of": "left of",
        "inside": "next to",
        "next to": "far away from",
        "behind": "in front of",
        "in front of": "behind",
    },
    neutral={"person": "a person", "relation": "next to", "nudity": "fully clothed"},
)
