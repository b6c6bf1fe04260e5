"""Which files of a folder are pictures, and why each other file is left out."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mpox.core.errors import InputError, line

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".avif", ".bmp"}
SUFFIXES |= {".gif", ".heic", ".heif", ".hif"}

# Folders of deleted files, copies and previews that operating systems, NAS and clouds put among the
# photos. They are in .dvcignore too. Names that start with a dot are covered without a list.
SYSTEM_FOLDERS = {
    *("$RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information", "OneDriveTemp"),
    *(f"FOUND.00{digit}" for digit in range(10)),  # Windows' disk check
    *("lost+found", "__MACOSX", "Network Trash Folder", "Temporary Items"),  # Linux, macOS
    *("@eaDir", "@tmp", "@sharebin", "#recycle", "#snapshot"),  # Synology
    *("@Recycle", "@Recently-Snapshot", "trashbox", "~snapshot"),  # QNAP, Buffalo, NetApp
    *("files_trashbin", "files_versions"),  # Nextcloud, ownCloud
}
# Why a file is left out, by suffix. Suffixes of possible photos come first.
LEFT_OUT = {
    "DICOM is not supported; export it as PNG, without names in the picture": ".dcm .dicom .ima",
    "camera raw files are not supported; export them as JPEG": (
        ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw"
        " .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f"
    ),
    "this format is not supported; save it as JPEG or PNG": (
        ".apng .avifs .cur .dib .emf .eps .exr .hdr .heics .heifs .icns .ico .j2c .j2k .jp2 .jpf"
        " .jpm .jps .jpx .jxl .jxr .mpo .pbm .pcx .pgm .pnm .ppm .psb .psd .qoi .svg .tga .wdp .wmf"
        " .xcf"
    ),
    "a document; save its pictures as separate files": (
        ".doc .docx .key .odp .odt .pages .pdf .pps .ppsx .ppt .pptx .rtf"
    ),
    "an archive; unpack it": ".7z .bz2 .cab .gz .iso .livp .rar .tar .tbz .tgz .txz .xz .zip .zst",
    "a video": (
        ".3g2 .3gp .asf .avi .flv .h264 .h265 .hevc .insv .lrv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg"
        " .mts .ogv .vob .webm .wmv"
    ),
}
REASONS = {suffix: reason for reason, suffixes in LEFT_OUT.items() for suffix in suffixes.split()}
# Placeholders for files that exist only in the cloud: `.IMG_1.jpg.icloud`, `IMG_1.jpg.nextcloud`.
PLACEHOLDERS = (".icloud", ".nextcloud", ".owncloud")
HIDDEN, NO_PICTURE = "a hidden file", "not a picture"


def find(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """Every file below `folder` with a picture's suffix, and the reason for each file left out.

    Both are in the order of their relative paths. Hidden files (`._IMG_1.jpg` of a Mac), hidden
    folders and SYSTEM_FOLDERS such as a recycle bin are left out. Links to files are followed.
    Raises InputError for a link to a folder, because DVC would miss changes behind it, and for
    files that are not downloaded from the cloud yet, because they would change the split.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    system = {name.lower() for name in SYSTEM_FOLDERS}
    pictures: list[Path] = []
    others: dict[Path, str] = {}
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        aside = [name for name in folders if name[0] == "." or name.lower() in system]
        folders[:] = sorted(set(folders) - set(aside))  # os.walk enters only these
        for path in (Path(parent, name) for name in aside):
            others |= _set_aside(path)
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                raise InputError(
                    f"{path}: is a link to a folder, which DVC does not follow; copy or link the "
                    "files instead, or set data.source to that folder"
                )
        for path in (Path(parent, name) for name in names):
            suffix = path.suffix.lower()
            if path.name[0] == ".":
                others[path] = HIDDEN
            elif suffix in SUFFIXES:
                pictures.append(path)
            else:
                others[path] = REASONS.get(suffix, NO_PICTURE)

    def order(path: Path) -> str:
        return path.relative_to(folder).as_posix()

    away = [path for path, why in others.items() if why in (HIDDEN, NO_PICTURE)]
    away = sorted((path for path in away if path.suffix.lower() in PLACEHOLDERS), key=order)
    if away:
        raise InputError(
            f"{folder}: {len(away)} not downloaded from the cloud yet, for example "
            f"{line(order(away[0]))}; download the folder (in Finder: Download Now), or copy the "
            "photos elsewhere"
        )
    return sorted(pictures, key=order), {path: others[path] for path in sorted(others, key=order)}


def _set_aside(folder: Path) -> dict[Path, str]:
    """Every file of a hidden or system folder with the reason to leave it out."""
    reason = f"in a hidden or system folder ({repr(folder.name)[1:-1]})"  # on one line
    if folder.is_symlink():
        return {folder: reason}
    reasons = {}

    def unlisted(error: OSError) -> None:
        reasons[Path(error.filename)] = reason

    for parent, folders, names in os.walk(folder, onerror=unlisted):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        reasons.update({Path(parent, name): reason for name in [*names, *links]})
    return reasons


def summary(others: Mapping[Path, str]) -> list[str]:
    """Lines that count the files left out, by reason and suffix, possible photos first."""
    counts: Counter[tuple[str, str]] = Counter()
    for path, reason in others.items():
        suffix = path.suffix.lower()
        if reason not in (*LEFT_OUT, HIDDEN, NO_PICTURE):
            suffix = ""  # a folder
        elif not (suffix in REASONS or suffix[1:].isalpha()):
            suffix = "other"  # otherwise `scan.1`, `scan.2` … would get a line each
        counts[reason, suffix] += 1
    places = [*LEFT_OUT, "", NO_PICTURE, HIDDEN]

    def order(item: tuple[tuple[str, str], int]) -> tuple:
        (reason, suffix), count = item
        return places.index(reason if reason in places else ""), -count, reason, suffix

    lines = []
    for (reason, suffix), count in sorted(counts.items(), key=order):
        files = "file" if count == 1 else "files"
        lines.append(
            f"{count} {suffix} {files}: {reason}" if suffix else f"{count} {files} {reason}"
        )
    return lines


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read ({error.strerror})")
