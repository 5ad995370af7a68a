"""The pages of the showcase: views, forms, the record of uploads."""
