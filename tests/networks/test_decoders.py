import pytest
import torch

from kd.networks.decoders import AttentionGate, Heads, LowLevelDecoder, ResidualSEUp


def test_heads_return_their_mean_and_each_member() -> None:
    heads = Heads(8, 3, heads=3).eval()
    logits, members = heads(torch.rand(2, 8, 5, 5))
    assert list(members) == ["head1", "head2", "head3"]
    torch.testing.assert_close(logits, (members["head1"] + members["head2"] + members["head3"]) / 3)
    assert [member[0].p for member in heads.members] == [0.10, 0.15, 0.20]


def test_a_single_head_has_no_members() -> None:
    logits, members = Heads(8, 3)(torch.rand(2, 8, 5, 5))
    assert logits.shape == (2, 3, 5, 5)
    assert members == {}


def test_heads_refuse_two() -> None:
    with pytest.raises(ValueError, match=r"^heads: must be 1 or 3, got 2$"):
        Heads(8, 3, heads=2)


def test_attention_gate_scales_every_channel_of_a_pixel_alike() -> None:
    gate = AttentionGate(6, 4, 5).eval()
    skip = torch.rand(2, 4, 3, 3) + 0.1
    share = gate(torch.randn(2, 6, 3, 3), skip) / skip
    torch.testing.assert_close(share, share[:, :1].expand_as(share))
    assert ((share > 0) & (share < 1)).all()


@pytest.mark.parametrize("decoder", [LowLevelDecoder(8, 6, 4, 10), ResidualSEUp(8, 6, 10)])
def test_a_stage_has_the_size_of_its_fine_map(decoder: torch.nn.Module) -> None:
    assert decoder(torch.rand(2, 8, 3, 4), torch.rand(2, 6, 5, 7)).shape == (2, 10, 5, 7)
