"""A complete miniature of FLUX: pictures, models and a judge, all made by this repository."""
