"""The 19 face-parsing classes, in CelebAMask-HQ order as zllrunning/face-parsing.PyTorch numbers them.

Left and right are the subject's own.
"""

CLASS_NAMES: tuple[str, ...] = (
    "background",
    "skin",
    "l_brow",
    "r_brow",
    "l_eye",
    "r_eye",
    "eye_g",
    "l_ear",
    "r_ear",
    "ear_r",
    "nose",
    "mouth",
    "u_lip",
    "l_lip",
    "neck",
    "neck_l",
    "cloth",
    "hair",
    "hat",
)
BACKGROUND = 0
