"""`vitcnn data …`: list, fetch and show data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vitcnn.data.preview import Block
    from vitcnn.data.synthetic.spec import Synthetic

data_app = typer.Typer(help="List, fetch and show data sets.", no_args_is_help=True)

SHOWN = 12  # default size of the contact sheet's subset
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Folder of the data cache; default: $VITCNN_DATA, else the platform's cache folder."
    ),
]
Name = Annotated[str, typer.Argument(help="fashion-mnist, torchvision:SVHN, folder:PATH, fractals …")]
Resolution = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Side in pixels to which images of a folder or a torchvision set are resized: the study's `resolution`. "
        "Default: 64, or the images' own size if all are squares of one size up to 96.",
    ),
]


@data_app.command("fetch")
def fetch_(
    name: Name,
    resolution: Resolution = None,
    skip_unreadable: Annotated[bool, typer.Option(help="Skip a folder's broken images.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Fetches a data set into the cache, once; images of a folder are read, resized and checked."""
    from vitcnn.data.sources.fetch import fetch
    from vitcnn.data.sources.registry import parse_dataset

    spec = parse_dataset(name, resolution)
    if spec.generated:
        typer.echo(f"{spec.name}: images are generated from seeds on demand; nothing to fetch")
        return
    before = spec.place(data_dir) / "about.json"
    stamp = before.stat().st_mtime_ns if before.exists() else None
    path = fetch(spec, data_dir, skip_unreadable=skip_unreadable, log=typer.echo)
    if before.stat().st_mtime_ns == stamp:
        typer.echo(f"{name} is already in {path}")


@data_app.command("list")
def list_(data_dir: DataDir = None) -> None:
    """Lists the data sets with size and licence, and whether they are fetched."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from vitcnn.data.sources.cache import Info, cache_folder, read_about
    from vitcnn.data.sources.registry import BUILT_IN, KINDS

    cache = cache_folder(data_dir)
    there = {path.parent: read_about(path.parent) for path in sorted(cache.glob("[!.]*/[!.]*/about.json"))}
    known = [(source.info, read_about(cache / name)) for name, source in BUILT_IN.items()]
    known += [(Info.model_validate(about["info"]), about) for about in there.values()]
    rest = (Column(head, no_wrap=True) for head in ("train + test", "pixels", "classes", "fetched"))
    out = Table(
        Column("name", overflow="fold"), *rest
    )  # a folder's long name wraps instead of squeezing the other columns
    for s, about in known:
        pixels = f"{s.size}×{s.size}×{s.channels}"
        fetched = "yes" if about else "no"
        out.add_row(escape(s.name), f"{s.train:,} + {s.test:,}", pixels, str(s.classes), fetched)
    console = Console(soft_wrap=True)
    console.print(out)
    for s, _ in known:
        console.print(f"{s.name}: {s.source}; licence: {s.licence}", highlight=False, markup=False)
    for kind in KINDS.values():
        console.print(f"{kind.form}, {kind.usage}")
    console.print(f"cache: {cache}")


@data_app.command()
def show(
    name: Name,
    n: Annotated[
        int | None, typer.Option(min=1, help=f"Size of the subset shown augmented; default: {SHOWN}, or all if fewer.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that subset.")] = 0,
    augment: Annotated[
        str,
        typer.Option(
            help="As in a recipe: none, basic, strong, or parts joined by +: flip, shift:K, trivial, erase:P, mixup:A, "
            "cutmix:A."
        ),
    ] = "basic",
    out: Annotated[
        Path | None, typer.Option(help="Output image, or a folder for it; default: NAME.png in the current folder.")
    ] = None,
    resolution: Resolution = None,
    data_dir: DataDir = None,
) -> None:
    """Describes a data set and draws images of its classes and of an augmented subset, into NAME.png in the current
    folder."""
    from vitcnn.data.augment.spec import check_augment
    from vitcnn.data.preview import contact_sheet
    from vitcnn.data.sources.cache import describe_duplicates, describe_reading
    from vitcnn.data.sources.fetch import fetch, load
    from vitcnn.data.sources.registry import parse_dataset
    from vitcnn.data.synthetic.spec import Synthetic
    from vitcnn.errors import ConfigError

    try:
        check_augment(augment)
    except ValueError as error:
        raise ConfigError(f"--augment: {error}") from None
    spec = parse_dataset(name, resolution)
    fetch(spec, data_dir, log=typer.echo)
    if isinstance(spec, Synthetic):
        _show_synthetic(spec, n or SHOWN, seed, augment, out)
        return
    info, arrays, facts = load(spec, data_dir)
    pixels = f"{info.size}×{info.size}×{info.channels} pixels"
    typer.echo(f"{name}: {info.train:,} training and {info.test:,} test images, {info.classes} classes, {pixels}")
    typer.echo(f"validation: {info.validation:,} of the training images, unless a study sets `validation`")
    typer.echo(f"licence: {info.licence}\nsource: {info.source}\nfetched from: {facts['origin']}")
    typer.echo(f"stored in: {spec.place(data_dir)}")
    typer.echo(f"SHA-256 of the pixels: train {facts['sha256'][0]}\n                       test  {facts['sha256'][1]}")
    typer.echo("\n".join([describe_duplicates(info, facts), *describe_reading(info)]))
    if "left_out" in facts:
        typer.echo(f"left out: {facts['left_out']:,} unreadable images")
    if (room := info.train - info.validation) < 1:
        raise ConfigError(
            f"{name}: validation takes {info.validation:,} of the {info.train:,} training images, so none are left "
            "to train on; add training images"
        )
    n = min(SHOWN, room) if n is None else n
    if n > room:
        raise ConfigError(
            f"--n: {n:,} images requested, {room:,} available ({name} has {info.train:,} training images, "
            f"{info.validation:,} of them held out for validation)"
        )
    _draw(contact_sheet(spec.title, info, arrays, n=n, seed=seed, augment=augment), spec.title, out)


def _show_synthetic(spec: "Synthetic", n: int, seed: int, augment: str, out: Path | None) -> None:
    import torch

    from vitcnn.data.preview import synthetic_sheet
    from vitcnn.data.sources.cache import describe_duplicates
    from vitcnn.data.synthetic.lazy import SAMPLE, LazyImages, facts_of, generator, test_images
    from vitcnn.seeds import role_seed

    cpu = torch.device("cpu")
    source = generator(spec, cpu)
    info = source.info
    pixels = f"{info.size}×{info.size}×{info.channels} pixels"
    typer.echo(f"{info.name}: unlimited training images, {info.test:,} test images, {info.classes} classes, {pixels}")
    typer.echo(f"validation: {info.validation:,} further images, unless a study sets `validation`")
    typer.echo(f"licence: {info.licence}\nsource: {info.source}\n{info.made}")
    train = LazyImages(source, role_seed(seed, "subset"), SAMPLE, cpu, remember=False)
    facts = facts_of(train, train.labels(), test_images(source, cpu, remember=False))
    typer.echo(f"SHA-256 of the pixels: train {facts['sha256'][0]} (the first {facts['looked_at'][0]:,} of this seed)")
    typer.echo(f"                       test  {facts['sha256'][1]}")
    typer.echo(describe_duplicates(info, facts))
    _draw(synthetic_sheet(source, n=n, seed=seed, augment=augment), spec.title, out)


def _draw(sheet: "tuple[Block, Block]", title: str, out: Path | None) -> None:
    from vitcnn.errors import ConfigError
    from vitcnn.report.sheet import sheet_figure
    from vitcnn.report.style import drawing

    name = f"{title.replace(':', '-')}.png"
    path = (out / name if out.is_dir() else out) if out else Path(name)
    path = path if path.suffix else path.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with drawing():
            sheet_figure(sheet).savefig(path, dpi=110)
    except ValueError as error:  # not a format that matplotlib can write
        raise ConfigError(f"--out {path}: {error}") from None
    typer.echo(f"written to {path}")
