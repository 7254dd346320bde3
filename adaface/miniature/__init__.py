"""The miniature world: rendered faces with ground truth, and tiny trained models behind the interfaces of the real ones.

Everything here stands in for something that is too large to carry along: photographs for `render`, insightface's pack,
BiSeNet, CLIP, SD-1.5 and Arc2Face for the models of `weights/`. Nothing outside this package knows about it: a
configuration file names the model folders, and the same code runs on either.
"""
