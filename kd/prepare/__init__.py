"""From what people have to recipes that train: exports of annotation tools looked at, converted and described."""
