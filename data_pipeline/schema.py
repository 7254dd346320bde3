"""The tables of a dataset build, column by column."""

from __future__ import annotations

import pyarrow as pa

from adaface.perception.classes import CLASS_NAMES

# Before the `mask_id` of a mask that replaces the parser's, so that the features of a photo with a mask that was only
# compared are not taken for those of the same photo and mask after the layout of its source has changed.
GIVEN = "given:"

# One row per image found. An image is known by the sha256 of its bytes; the same bytes may be found at several paths.
SOURCE = pa.schema(
    [
        pa.field(
            "image_id", pa.string(), nullable=False
        ),  # sha256 of the bytes; of "unreadable:" + path when there are none
        pa.field("source", pa.string(), nullable=False),  # label of the source
        pa.field("path", pa.string(), nullable=False),  # full path or URI
        pa.field("identity", pa.string()),  # "<source>/<folder>"; null: unknown (flat layout)
        pa.field("licence", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("mask_path", pa.string()),  # a NAME_mask.png beside the image
        pa.field("mask_id", pa.string()),  # sha256 of its bytes, after GIVEN where it replaces the parser's
        pa.field("mask_is_given", pa.bool_(), nullable=False),  # layout `pairs`: the mask replaces the parser's
        pa.field("error", pa.string()),  # why the file could not be read
    ]
)

# One row per distinct (image_id, mask_id).
FEATURES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("mask_id", pa.string()),
        pa.field("outcome", pa.string(), nullable=False),  # "analysed" or "decode_error"
        pa.field("error", pa.string()),  # what the decoder said
        pa.field("format", pa.string()),  # PIL's name: JPEG, PNG, WEBP, ...
        pa.field("mode", pa.string()),  # PIL's pixel mode as stored: RGB, L, CMYK, ...
        pa.field("orientation", pa.int8()),  # EXIF, 1..8; 1: stored upright
        pa.field("width", pa.int32()),  # px, after EXIF rotation
        pa.field("height", pa.int32()),
        pa.field("crop", pa.list_(pa.int32(), 4)),  # x0, y0, x1, y1 of the part that becomes the sample, source px
        pa.field("phash", pa.int64()),  # 64-bit perceptual hash of the sample, as a signed integer
        pa.field("n_faces", pa.int32()),
        pa.field("det_score", pa.float32()),  # 0..1
        pa.field("detector_size", pa.int32()),  # rung of the retry ladder that found the face
        pa.field("border", pa.float32()),  # 0, or the border share that was needed
        pa.field("bbox", pa.list_(pa.float32(), 4)),  # x0, y0, x1, y1, source px
        pa.field("landmarks", pa.list_(pa.float32(), 10)),  # 5 x (x, y): eyes, nose, mouth corners, source px
        pa.field("second_face", pa.float32()),  # area of the second face / area of the first; 0: there is one
        pa.field("face_share", pa.float32()),  # area of the face box inside the sample / sample area, 0..1
        pa.field("face_pixels", pa.float32()),  # shorter side of the face box, in sample or source px, the less
        pa.field("inter_ocular", pa.float32()),  # distance between the eyes, same px as face_pixels
        pa.field("yaw", pa.float32()),  # degrees; 0 is frontal
        pa.field("pitch", pa.float32()),
        pa.field("roll", pa.float32()),
        pa.field(
            "sharpness", pa.float32()
        ),  # variance of the Laplacian of the aligned 112 px face, grey levels squared
        pa.field("exposure", pa.float32()),  # mean luma in the face box, 0..1
        pa.field("clipped", pa.float32()),  # share of face pixels with luma <= 4 or >= 251
        pa.field("gender", pa.int8()),  # 0 female, 1 male; null without an attribute model
        pa.field("age", pa.int16()),  # years
        pa.field("embedding_norm", pa.float32()),
        pa.field("embedding", pa.list_(pa.float32())),  # unit norm, length id_dim; null: no face
        pa.field("n_parts", pa.int32()),  # distinct parse classes with at least one pixel, background included
        pa.field("part_pixels", pa.list_(pa.int32(), len(CLASS_NAMES))),
        pa.field("face_seen", pa.float32()),  # share of the face box where the parser sees a face, 0..1
        pa.field("foreground", pa.float32()),  # share of mask pixels that are foreground
        pa.field("mask_iou", pa.float32()),  # parser's foreground against the NAME_mask.png beside the image
        pa.field("mask", pa.binary()),  # PNG, 8 bit {0, 255}, image_size squared
        pa.field("parts", pa.binary()),  # PNG, class ids 0..18, image_size squared
    ]
)
METRICS = [name for name in FEATURES.names if name not in ("embedding", "mask", "parts")]

# One row per row of SOURCE, same order.
SELECTION = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("mask_id", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("identity", pa.string()),
        pa.field("accepted", pa.bool_(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("identity_similarity", pa.float32()),  # cosine to the identity's mean
        pa.field("nearest_identity", pa.string()),  # the other identity whose mean is nearest
        pa.field("nearest_similarity", pa.float32()),  # cosine to it
        pa.field("duplicate_of", pa.string()),  # path of the image that was kept instead
        pa.field("key", pa.string()),  # sample key; null: rejected
        pa.field("shard", pa.int32()),  # null: rejected
    ]
)

IDENTITIES = pa.schema(
    [
        pa.field("identity", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("images", pa.int32(), nullable=False),
        pa.field("faces", pa.int32(), nullable=False),
        pa.field("accepted", pa.int32(), nullable=False),
        pa.field("person_type", pa.string(), nullable=False),
        pa.field("gender", pa.int8()),  # majority
        pa.field("age", pa.int16()),  # median, years
        pa.field("det_score", pa.float32()),  # median over the faces
        pa.field("consistency", pa.float32()),  # mean cosine of the accepted images to the mean
        pa.field("nearest_identity", pa.string()),
        pa.field("nearest_similarity", pa.float32()),
        pa.field("mean_embedding", pa.list_(pa.float32())),  # unit norm; null: no face
    ]
)
