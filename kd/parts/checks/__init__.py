"""The last stages of checking a recipe: trials, the dry run, and the meeting with real images."""
