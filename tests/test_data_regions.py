"""Regions: which pixels lie in them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from test_data_region_readers import SIZE, SQUARE, box
from ushape.data.regions import Drawing, Region, Stamp, draw


@given(arrays(np.int8, (6, 2), elements=st.integers(0, 8)), st.integers(0, 1))
def test_regions_that_share_edges_share_no_pixel_and_leave_none_out(corners, half):
    """Whatever the edge, and where it goes through centres: any fan of triangles has the parity of its outline."""
    ring = corners / 2 + half
    rings = [ring[[0, k, k + 1]] for k in range(1, len(ring) - 1)]
    fan = sum(draw(Drawing((Region(((each,),)),)), SIZE) for each in rings) % 2
    assert np.array_equal(fan, draw(Drawing((Region(((ring,),)),)), SIZE))


def test_the_smaller_of_two_that_overlap_is_on_top_and_what_lies_outside_is_cut():
    large, small = (np.array(ring, float) for ring in (SQUARE, [[4, 5], [5, 5], [5, 6], [4, 6]]))
    for order, sizes in (([large, small], [15, 1]), ([small, large], [1, 15])):
        mask = draw(Drawing(tuple(Region(((ring,),)) for ring in order)), SIZE)
        assert np.bincount(mask.ravel())[1:].tolist() == sizes
    outside = Drawing(tuple(Region(((large + n,),)) for n in (-4, 100, -100)))
    assert np.array_equal(draw(outside, SIZE), box(0, 3, 0, 2))


def test_of_classes_each_pixel_holds_the_number():
    large, small = (np.array(ring, float) for ring in (SQUARE, [[4, 5], [5, 5], [5, 6], [4, 6]]))
    drawing = Drawing((Region(((small,),), "nucleus"), Region(((large,),), "cell")))
    mask = draw(drawing, SIZE, ("background", "cell", "nucleus"))
    assert np.array_equal(mask, box(3, 7, 2, 6) + box(5, 6, 4, 5).astype(int))
    unnamed = Drawing((Region(((large,),)),))
    assert np.array_equal(draw(unnamed, SIZE, ("background", "foreground")), box(3, 7, 2, 6))
    # Of several classes it could be any.
    assert np.array_equal(draw(unnamed, SIZE, ("background", "cell", "nucleus")), -1 * box(3, 7, 2, 6))


def test_a_centre_on_an_edge_lies_in_what_is_below_and_to_the_right_of_it():
    ring = np.array([[1.5, 1.5], [4.5, 1.5], [4.5, 4.5], [1.5, 4.5]])
    assert np.array_equal(draw(Drawing((Region(((ring,),)),)), SIZE), box(1, 4, 1, 4))


def test_pixels_of_pieces_that_overlap_count_once():
    """So that what is smaller is on top."""
    twice = Region(((np.array(SQUARE, float),), (np.array(SQUARE, float),)))
    larger = Region(((np.array([[2, 3], [7, 3], [7, 7], [2, 7]], float),),))
    assert np.array_equal(draw(Drawing((twice, larger)), SIZE), 2 * box(3, 7, 2, 7) - box(3, 7, 2, 6))


def test_painted_pixels_outside_the_image_are_cut():
    stamp = Stamp.of(np.ones((5, 6), bool), -2, 11)
    assert np.array_equal(draw(Drawing((Region((), stamps=(stamp,)),)), SIZE), box(0, 3, 11, 14))
