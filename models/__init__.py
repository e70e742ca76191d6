"""Models: cards, engines, weights and audio. Imports nothing from the layers above."""
