"""How each of the tiny models is trained: data, loss, measures, export."""
