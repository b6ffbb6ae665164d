"""What every test shares: an example of hypothesis may take as long as a busy machine lets it."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
