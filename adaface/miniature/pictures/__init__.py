"""What the recipes learn from: rendered pictures, kept on disk, and views of them."""
