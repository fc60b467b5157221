"""Files in, files out: predict images on disk, score masks on disk."""

from ushape.files.predict import predict_files
from ushape.files.score import evaluation_to_dict, make_room_for_rows, score_files, write_rows
from ushape.files.sentences import sentence_of

__all__ = [
    "evaluation_to_dict",
    "make_room_for_rows",
    "predict_files",
    "score_files",
    "sentence_of",
    "write_rows",
]
