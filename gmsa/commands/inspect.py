"""`gmsa inspect`: show what a model predicts for a video and what it attends to: a screen, a picture, a record."""

from __future__ import annotations

import sys
from os.path import isdir  # of an empty name False, where pathlib takes it for this folder
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmsa.common import command_line, device_of, show, use_threads
from gmsa.optional_values import listed
from gmsa.options import DataSet, Device, ModelOrFolder, OnError, Threads
from gmsa.pretrained import folder_record, neighbourhood_of, refuse_for_folder
from gmsa.terminal import STOPPED, ClickError, left_out, progress_of, progress_of_stages, say, visible
from gmsa_models.data.atomic import check_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from analysis.inspect.live import LiveModel
    from figures.inspector.media import ClipMedia
    from gmsa_models.classifier import GMSAClassifier
    from gmsa_models.data.clip import Clip
    from gmsa_models.data.video.thumbnails import Thumbnails

__all__ = ["inspect"]

# As `analysis.interventions.edit_texts.GRAMMAR` has them, which needs torch; brackets as the help text wants them.
FORMS = (
    "knock-out SITE \\[queries A..B] \\[keys A..B] \\[after-softmax]; "
    "patch SITE from mean|zero|own|CLIP \\[at A..B] \\[start S]; "
    "force-gate SITE to VALUE \\[branch global|local|TP5] \\[at A..B]; "
    "neighbourhood SITE as TP30; "
    "scale SITE by FACTOR \\[at A..B]; "
    "drop SITE at A..B; "
    "move SITE at A..B to S"
)


def inspect(
    context: typer.Context,
    clip: Annotated[
        str, typer.Argument(metavar="CLIP", help="demo:3, a video, a file of clips, file#id, catalog#id or record.nc.")
    ],
    model: ModelOrFolder = "gate-op-bd20",
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="A second model, or saved record, to hold against it; several with commas, or given several times."
        ),
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="Change the pass of --model, and show it beside the plain one; may be given several times, or several "
            "with ; between them. SITE is as visual/0/local/weights\\[head 3], A..B are seconds. " + FORMS
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the records.")] = Path("inspected"),
    top: Annotated[int, typer.Option("--top", "--classes", min=1, help="How many classes to list.")] = 7,
    html: Annotated[bool, typer.Option("--html", help="Write the inspector too, as one HTML file.")] = False,
    video: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --html: the video that the frames are of, for pictures and sound."),
    ] = None,
    media: Annotated[
        str | None,
        typer.Option(
            metavar="none|thumbnails|proxy",
            help="With --html, of a video: a small picture a frame, or these and a small copy that plays (at most "
            "4.5 MB); default: proxy with --video, thumbnails of a CLIP that is a video file.",
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="With --html: edits of the pass can be tried in the page, which makes them itself; of models with at "
            "most 4 MB of weights.",
        ),
    ] = False,
    certify: Annotated[bool, typer.Option("--certify", help="Check every attention map by running it again.")] = False,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="[METHOD,...]",
            help="Explain a class by these methods, or by every one, and measure how faithful each is; of a model of "
            "the paper's size that takes minutes. Ctrl-C keeps what is done.",
        ),
    ] = None,
    curve_points: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="With --explain: parts of the curves by which it is measured how faithful each is; 0: every frame. "
            "Default: 64.",
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Class to explain; default: the likeliest.")] = None,
    layer: Annotated[str, typer.Option(metavar="N|all", help="Encoder layer, from 0; or all of them.")] = "0",
    neighbourhood: Annotated[
        str | None,
        typer.Option(
            metavar="TP30",
            help="Measure S by this neighbourhood (BDn, TPn, TDnxd; CP4: the clip's own segments; SHOTS: its "
            "video's shots; SP0-9-31: given) "
            "in place of the model's own; of a transformers model there is no S and no G without it.",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pictures that a transformers model is given, evenly over the span; default: as many as it takes at "
            "once. More, a multiple of it, are seen in windows one after another.",
        ),
    ] = None,
    span: Annotated[
        str | None,
        typer.Option(
            metavar="A..B",
            help="Seconds of a video file that a transformers model is given; default: all, or the first "
            "30 s of its sound.",
        ),
    ] = None,
    visual: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=PATH",
            help="For a video file: what makes the model's visual features, where its weights must be given.",
        ),
    ] = None,
    audio: Annotated[
        str | None, typer.Option(metavar="NAME=PATH", help="Likewise, what makes its audio features.")
    ] = None,
    dataset: DataSet = None,
    on_error: OnError = "fail",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Show what a model predicts for a video and what it attends to: a screen, a picture, a record."""
    from figures.inspection import saved_records, write_inspection
    from figures.inspector.media import ClipMedia
    from gmsa.screen_tables import clip_summary
    from gmsa_models.data.video.decode import is_video

    use_threads(threads)
    check_folder(out)
    others = _others(against)
    pictures: Path | ClipMedia | None
    pictures, media = _pictures(clip, model, html, video, media)
    if live and not html:
        raise ClickError("--live is of the page: add --html")
    live_models: list[LiveModel] = []
    stopped, makes_features = False, is_video(clip) and not isdir(model)
    if (visual or audio) and not makes_features:
        raise ClickError(f"--visual and --audio make features of a video file; {clip!r} with {model!r} needs none")
    if curve_points is not None and explain is None and target is None:
        raise ClickError("--curve-points is of explanations: add --explain")
    if _is_saved_record(clip):
        if explain or target:
            raise ClickError(f"{clip} is a saved record: it holds what was explained then. Give the video for another")
        if certify:
            raise ClickError(
                f"{clip} is a saved record: it is shown without a model. Give the video to certify its maps"
            )
        origin = context.get_parameter_source("model")
        if origin is not None and origin.name != "DEFAULT":
            raise ClickError(
                f"{clip} is a saved record: it is shown without a model. Leave --model out, or give the video"
            )
        if layer != "0":
            raise ClickError(f"{clip} is a saved record: it holds the layers of then. Give the video for another")
        if edit:
            raise ClickError(
                f"{clip} is a saved record: it is shown without a model. Give the video to change its pass"
            )
        if live:
            raise ClickError(
                f"{clip} is a saved record: it is shown without a model. Give the video for a page that is live"
            )
        if neighbourhood or frames or span:
            raise ClickError(
                f"{clip} is a saved record: it is shown without a model. Give the video for another neighbourhood, "
                "other frames or another span"
            )
        if dataset is not None:
            raise ClickError(f"{clip} is a saved record: its labels are known. Give the video to say whose they are")
        records = saved_records([clip, *others])
    elif isdir(model):
        refused = {
            "--against": against, "--edit": edit, "--live": live, "--certify": certify, "--dataset": dataset,
            "--on-error": on_error != "fail", "--curve-points": curve_points is not None,
        }  # fmt: skip
        refuse_for_folder(model, refused)
        with progress_of_stages() as stage:
            record = folder_record(
                clip, model, device_of(device), frames, span, neighbourhood, explain is not None, listed(explain),
                target, stage("explaining"), stage("record"), _layers(layer),
            )  # fmt: skip
        records = [record]
    else:
        from analysis.explanations.faithfulness import CURVE_POINTS
        from analysis.inspect.live import check_live_checkpoints, live_model
        from analysis.inspect.source import ExplainingStopped, inspect_source

        def keep(models: Sequence[GMSAClassifier], seen: Clip) -> None:
            live_models.extend(live_model(each, seen) for each in models if live)

        if frames or span:
            raise ClickError(
                f"--frames and --span are of a transformers model's folder; {model!r} takes features, one frame a step"
            )
        names = [model, *others]
        if live:
            check_live_checkpoints(names)
        source: str | Clip = clip
        if makes_features:
            source, thumbnails = _features(clip, names, out, visual, audio, device)
            if media == "thumbnails" and thumbnails is not None and pictures == Path(clip):
                pictures = ClipMedia(thumbnails, path=clip)
        try:
            with left_out() as skipped, progress_of_stages() as stage:
                records = inspect_source(
                    source, names, device_of(device), edits=edit or (), certify=certify,
                    explain=explain is not None, methods=listed(explain), target=target,
                    curve_points=CURVE_POINTS if curve_points is None else curve_points or None,
                    neighbourhood=neighbourhood_of(neighbourhood), dataset=dataset, on_error=on_error,
                    on_skip=skipped, notify=say, progress=stage("explaining"), record_progress=stage("record"),
                    begin=keep, **_layers(layer),
                )  # fmt: skip
        except ExplainingStopped as error:
            stopped, records = True, error.records
            say(f"explaining was stopped; the records and the pictures are written {_explained(records)}")
    if html and pictures is None and media is None and records[0].sizes["frame"]:
        pictures = _stored_pictures(records[0])
    with progress_of("files") as progress:
        written = write_inspection(
            records, out, top, command_line(), html, video=pictures, media=media, live=live_models, notify=say,
            progress=progress,
        )  # fmt: skip
    show(clip_summary(records, top))  # after the files: a terminal that fails loses none
    for path in written:
        print(f"wrote {visible(path)}")
    if stopped:
        sys.exit(STOPPED)


def _others(against: Sequence[str] | None) -> list[str]:
    """The models or records that `--against` lists; a comma in the name of a file is no list."""
    return [name for text in against or () for name in ([text] if Path(text).exists() else listed(text) or ())]


def _explained(records: Sequence[xr.Dataset]) -> str:
    """With what explanations some records are, in words."""
    names = [str(one) for record in records if "explainer" in record.coords for one in record["explainer"].values]
    return f"with {', '.join(dict.fromkeys(names))}" if names else "without explanations"


def _features(
    clip: str, names: list[str], out: Path, visual: str | None, audio: str | None, device: str
) -> tuple[Clip, Thumbnails | None]:
    """The features of a video file that models take, and its thumbnails; kept beside the records for the next time."""
    from analysis.inspect.video_features import clip_for_models

    with progress_of("features") as progress:
        made, thumbnails = clip_for_models(
            clip, names, out / "features", visual=visual or "", audio=audio or "", device=device_of(device),
            progress=progress,
        )  # fmt: skip
    if made.alignment:
        say(f"{clip}: {made.alignment}")
    return made, thumbnails


def _stored_pictures(record: xr.Dataset) -> ClipMedia | None:
    """The pictures that `gmsa features` wrote beside the features which a record is of, and the small copy."""
    from analysis.inspect.video_features import stored_pictures
    from figures.inspector.media import ClipMedia

    thumbnails, copy = stored_pictures(str(record.attrs.get("source", "")))
    return None if thumbnails is None else ClipMedia(thumbnails, copy)


def _pictures(
    clip: str, model: str, html: bool, video: Path | None, media: str | None
) -> tuple[Path | None, str | None]:
    """The video whose pictures the page shows, and which; checked before anything is computed."""
    from figures.inspector.media import MEDIA
    from gmsa_models.data.video.decode import is_video

    if (video is not None or media is not None) and not html:
        raise ClickError(f"{'--media' if video is None else '--video'} is of the page: add --html")
    if media is not None and media not in MEDIA:
        raise ClickError(f"--media is {media!r}; expected one of {', '.join(MEDIA)}")
    if video is not None and not video.is_file():
        raise ClickError(f"--video is {str(video)!r}, which is no file")
    if video is not None:
        return video, media
    if (isdir(model) and not _is_saved_record(clip)) or is_video(clip):
        return Path(clip), media or "thumbnails"
    if media not in (None, "none"):
        raise ClickError(f"--media {media} needs the video that {clip!r} is of: add --video FILE")
    return None, media


def _layers(option: str) -> dict[str, Any]:
    """`--layer` as `inspect_source` takes it."""
    if option == "all":
        return {"layers": "all"}
    if not (option.isascii() and option.isdigit()):
        raise ClickError(f"--layer is {option!r}; expected the number of a layer, from 0, or all")
    return {"layer": int(option)}


def _is_saved_record(clip: str) -> bool:
    """Whether it is the file or the folder of a record, and no video; a folder's name may end in a slash."""
    return Path(clip).suffix in (".nc", ".zarr") and "#" not in Path(clip).name
