"""Why an image is not in the dataset. A row carries every reason that applies, in this order."""

REASONS: dict[str, str] = {
    "decode_error": "the file cannot be read, is not an image, is damaged, or is larger than allowed",
    "too_small": "the shorter side of the image is below `min_side`",
    "no_face": "no face was found, at any detector size, with or without a border",
    "multi_face": "a second face is nearly as large as the first (`max_second_face`)",
    "low_det_score": "the detector is not sure that this is a face (`min_det_score`)",
    "low_embedding_norm": "the ID embedding is weak: not a face, or a poor picture of one (`min_embedding_norm`)",
    "small_face": "the face has too few pixels (`min_face`)",
    "extreme_pose": "the head is turned too far (`max_yaw`, `max_pitch`, `max_roll`)",
    "blurry": "the face is not sharp (`min_sharpness`)",
    "bad_exposure": "much of the face is plain white or plain black (`max_clipped`)",
    "occluded": "something hides the face: the parser sees too little of it (`min_face_seen`)",
    "too_few_parts": "the parser sees too few classes for a whole face (`min_parts`)",
    "too_many_parts": "the parser sees implausibly many classes; look at it (`max_parts`)",
    "identity_outlier": "not the person the folder is about (`min_identity_similarity`)",
    "duplicate_exact": "the same bytes are in the dataset already",
    "duplicate_near": "the same picture, resized or re-encoded, is in the dataset already",
    "identity_not_a_face": "the detector doubts most of its images: an animal, a doll (`min_identity_det_score`)",
    "identity_too_small": "too few images of this identity are left (`min_identity_images`)",
    "identity_merged": "this identity is the same person as a larger one (`merged_identity_similarity`)",
    "eval_identity_leak": "this person is in an evaluation set (`eval_identities`)",
}
