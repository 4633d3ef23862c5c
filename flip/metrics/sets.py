"""Define the names of synthetic test sets, tasks and scores."""

TRANSFERS = ("caption", "nocaps", "vqa")  # tasks of heads on frozen features, which are sets of their own
JAVA = ("meteor", "spice")  # scores of captions that take Java, and are computed where a table shows them
RECALLS = (1, 5, 10)
PRIMARY = "primary"  # stands for evaluate.primary_set in the metrics of params.yaml
# How the world's wrong captions differ from the right ones, and what its questions ask for.
PAIRS = ("replace-object", "replace-attribute", "replace-relation", "swap-attribute", "swap-relation")
QUESTIONS = ("colour", "shape", "count", "place", "relation")
SCORES = ("cider", "bleu4", *JAVA)  # of captions

# Sets of the world, and what they are for.
WORLD = dict.fromkeys(("fine", "coarse", "validation"), "classification") | {"retrieval": "retrieval"}
WORLD |= dict.fromkeys(("sketch", "rendition", "corruption", "viewpoint"), "classification")
WORLD |= {kind: kind for kind in ("pointing", "entailment", "composition")}


def retrieval_in(language: str) -> str:
    """Return the name of the set of captions in a language: retrieval-de."""
    return f"retrieval-{language}"
