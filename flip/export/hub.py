"""Upload an exported model to the Hugging Face hub, with a card that says how to load it from there."""

import re
from pathlib import Path

CARD = "README.md"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# How the code in a card reads a model from a folder, and how from the hub.
FROM_HUB = (
    (r'"local-dir:[^"]*"', '"hf-hub:{repo}"'),  # open_clip and timm
    (r'from_pretrained\("[^"]*"', 'from_pretrained("{repo}"'),  # transformers
    (r'^folder = "[^"]*"', 'import huggingface_hub\n\nfolder = huggingface_hub.snapshot_download("{repo}")'),  # torch
)


def of_hub(card: str, repo: str) -> str:
    """Return a model card whose code loads the model from the hub."""
    for here, there in FROM_HUB:
        card = re.sub(here, there.replace("{repo}", repo), card, flags=re.MULTILINE)
    return card


def push(folder: Path, repo: str, private: bool, revision: str | None) -> str:
    """Upload the files of an export to a repository of the hub, which is made if it is not there; return its address.

    All of them come in one commit or none does. Who uploads is who `hf auth login` or HF_TOKEN says.

    Raises:
        ValueError: a folder that is no export, a name that is none, or what the hub says.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not REPOSITORY.fullmatch(repo):
        raise ValueError(f"--repo {repo}: no name; allowed: USER/NAME, of letters, digits, '-', '_', '.'")
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder}: no {CARD} here, so it is not an export; `flip export --out {folder}` makes one")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    card = of_hub((folder / CARD).read_text(), repo).encode()
    added = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
    try:
        api = HfApi()
        made = api.create_repo(repo, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        message = f"Upload {folder.name}"
        api.create_commit(repo, [CommitOperationAdd(CARD, card), *added], commit_message=message, revision=revision)
    except (HfHubHTTPError, OSError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{repo}: not uploaded ({said}); `hf auth login` or HF_TOKEN says who you are") from None
    return str(made)
