"""What draws people: plain Stable Diffusion, the teacher, encoders, and methods of one's own, all behind one interface."""
