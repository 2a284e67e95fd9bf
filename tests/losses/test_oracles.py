"""Our losses against the values and gradients that published code of each method returned, case by case.

`tests/oracles/README.md` describes the cases. A row states how our value relates to a group of cases: equal; equal up
to a known factor; or different, on purpose. Every case is in a row or in the list below the rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

from kd.adapters import MaskedGenerator
from kd.losses import (
    AT,
    CWD,
    DIST,
    DKD,
    DSD,
    ICKD,
    IFVD,
    MGD,
    MSE,
    NFD,
    RKD,
    SKD,
    SP,
    VID,
    CIRKDMemory,
    CIRKDMiniBatch,
    CrossEntropy,
    Dice,
    Focal,
    Jaccard,
    LogitStandardized,
    Lovasz,
    PixelKL,
    Tversky,
)
from kd.losses.feature.review_kd import hierarchical_distance
from kd.types import resize

FOLDER = Path(__file__).resolve().parents[1] / "oracles"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))


class Case:
    """One file: `case["s"]` is the array `in_s`; `case["param_x"]` and `case["extra_x"]` have their own names.

    Student inputs and parameters require a gradient, the teacher's inputs do not.
    """

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as arrays:
            self.arrays = {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}
        self.name = name
        self.inputs = {}
        for key, array in self.arrays.items():
            if key.startswith(("in_", "param_", "extra_")):
                learns = key.startswith(("in_s", "in_fs", "in_logits", "param_")) and array.is_floating_point()
                self.inputs[key.removeprefix("in_")] = array.requires_grad_() if learns else array

    def __getitem__(self, key: str) -> Tensor:
        return self.inputs[key]

    @property
    def temperature(self) -> float:
        """The `T<number>` of the file's name."""
        return next(float(part[1:]) for part in self.name.split("_") if part[0] == "T" and part[1:] != "")

    def map(self, key: str) -> Tensor:
        """Rows (M, C) as M maps of one pixel, labels (M,) likewise; maps unchanged."""
        array = self[key]
        if array.dim() == 2:
            return array[:, :, None, None]
        return array[:, None, None] if array.dim() == 1 else array

    def expected(self, output: int | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The value of an output and its gradients by input, as far as the file has them."""
        mark = "" if output is None else str(output)
        gradients = {}
        for key, array in self.arrays.items():
            for prefix, inputs in ((f"grad{mark}_", ""), (f"gradparam{mark}_", "param_")):
                if key.startswith(prefix) and array.numel():
                    gradients[inputs + key.removeprefix(prefix)] = array
            if key == f"grad{mark}" and array.numel():
                gradients["logits"] = array
        return self.arrays[f"loss{mark}"], gradients


class Row(NamedTuple):
    """Cases, our value for one of them, and how the two values are related."""

    loss: str  # the loss of kd.losses that the row is about
    cases: str  # a glob over the files' names
    ours: Callable[[Case], Tensor | tuple[Tensor, ...]]  # one tensor per output in the files
    factor: float | Callable[[Case], float] = 1.0  # the file's value divided by ours
    unlike: bool = False  # no factor relates the two: ours is finite and differs
    reason: str = ""  # what the published code does, for a factor or a difference
    rtol: float = 1e-6  # of the value; the gradient's tolerance is ten times that


def pixel_kl(convention: str, temperature: float | None = None) -> Callable[[Case], Tensor]:
    return lambda case: PixelKL(temperature or case.temperature, convention)(case["s"], case["t"], None)


def pixel_kl_after_upsampling(case: Case) -> Tensor:
    size = [8 * length for length in case["s"].shape[2:]]
    maps = (F.interpolate(case[key], size, mode="bilinear", align_corners=True) for key in ("s", "t"))
    return PixelKL(case.temperature, "ifvd")(*maps, None)


def with_labels(case: Case) -> Tensor:
    """0.3 · cross entropy + 0.7 · KL; the published KL uses every pixel, so ours gets no labels."""
    divergence = PixelKL(case.temperature, "mmrazor-batchmean")(case["s"], case["t"], None)
    return 0.3 * CrossEntropy()(case["s"], case["y"]) + 0.7 * divergence


def cwd(case: Case) -> Tensor:
    return CWD(case.temperature)(case["s"], case["t"], None)


def after_conv(loss: torch.nn.Module) -> Callable[[Case], Tensor]:
    return lambda case: loss(F.conv2d(case["s"], case["param_conv_weight"]), case["t"], None)


def attention(convention: str) -> Callable[[Case], Tensor]:
    return lambda case: AT(convention)(case["s"], case["t"], None)


def attention_after_pooling(case: Case) -> Tensor:
    return AT("cirkd")(F.adaptive_avg_pool2d(case["s"], case["t"].shape[2:]), case["t"], None)


def cross_entropy(**options: float) -> Callable[[Case], Tensor]:
    return lambda case: CrossEntropy(**options)(case["logits"], case["target"])


def weighted_cross_entropy(case: Case) -> Tensor:
    weight = np.linspace(0.5, 2, case["logits"].shape[1]).tolist()
    return CrossEntropy(weight)(case["logits"], case["target"])


def upsampled_cross_entropy(case: Case) -> Tensor:
    logits = F.interpolate(case["s"], case["y"].shape[1:], mode="bilinear", align_corners=True)
    return CrossEntropy()(logits, case["y"])


def default_upsampled_cross_entropy(case: Case) -> Tensor:
    return CrossEntropy()(resize(case["s"], tuple(case["y"].shape[1:])), case["y"])


def decoupled(case: Case) -> Tensor:
    return DKD(case.temperature)(case.map("s"), case.map("t"), case.map("y"))


def dist(convention: str = "default", temperature: float | None = None) -> Callable[[Case], Tensor]:
    return lambda case: DIST(temperature or case.temperature, convention=convention)(case.map("s"), case.map("t"), None)


def standardized(case: Case) -> Tensor:
    return LogitStandardized(PixelKL(case.temperature))(case.map("s"), case.map("t"), None)


def standardized_decoupled(case: Case) -> Tensor:
    return LogitStandardized(DKD(case.temperature))(case.map("s"), case.map("t"), case.map("y"))


def standardized_with_labels(case: Case) -> Tensor:
    return 0.5 * CrossEntropy()(case.map("s"), case.map("y")) + 0.5 * standardized(case)


def nearest(labels: Tensor, maps: Tensor) -> Tensor:
    """Labels at the size of the maps as published code reads them: from the corner of each cell."""
    return F.interpolate(labels[:, None].double(), maps.shape[2:], mode="nearest")[:, 0].long()


def related(loss: torch.nn.Module) -> Callable[[Case], Tensor]:
    return lambda case: loss(case["s"], case["t"], None)


def related_in_float32(loss: torch.nn.Module) -> Callable[[Case], Tensor]:
    """For code that always computes in float32."""
    return lambda case: loss(case["s"].float(), case["t"].float(), None)


def variation(convention: str) -> Callable[[Case], Tensor]:
    return lambda case: IFVD(convention)(case["s"], case["t"], nearest(case["y"], case["s"]))


def share_of_valid_pixels(case: Case) -> float:
    return (nearest(case["y"], case["s"]) != 255).double().mean().item()


def across_images(case: Case) -> Tensor:
    return CIRKDMiniBatch(case.temperature)(case["s"], case["t"], None)


def double_similarity(convention: str) -> Callable[[Case], tuple[Tensor, Tensor]]:
    def parts(case: Case) -> tuple[Tensor, Tensor]:
        student, teacher = (tuple(case[side + mark] for mark in ("", "1", "2")) for side in "st")
        return tuple(DSD(psd, csd, convention=convention)(student, teacher, None) for psd, csd in ((1, 0), (0, 1)))

    return parts


def projected(case: Case) -> Tensor:
    """CIRKD's projection of the student's map, its batch norm in training mode."""
    head = {key: case[f"param_project_head_{key}"] for key in ("0_weight", "1_weight", "1_bias", "3_weight")}
    hidden = F.conv2d(case["s"], head["0_weight"])
    hidden = F.batch_norm(hidden, None, None, head["1_weight"], head["1_bias"], training=True).relu()
    return F.conv2d(hidden, head["3_weight"])


def remembered(case: Case) -> tuple[Tensor, ...]:
    """The pixel part and the region part, with queues that hold what the published code drew from its queues."""
    parts = []
    for factors in ((1.0, 0.0), (0.0, 1.0)):
        loss = CIRKDMemory(3, 8, pixel_queue=10, region_queue=4, pixel=factors[0], region=factors[1]).double().eval()
        for memory, queue, perm in ((loss.pixels, "pixel", "pixel"), (loss.regions, "segment", "region")):
            drawn = case[f"extra_perm_{perm}_contrast"][: memory.queue.shape[1]]
            memory.queue.copy_(case[f"extra_{queue}_queue_after"][:, drawn])
            memory.written.fill_(memory.queue.shape[1])
        parts.append(loss(projected(case), case["t"], nearest(case["y"], case["s"])))
    return tuple(parts)


def relational(**options: float | bool) -> Callable[[Case], Tensor]:
    """RKD between images: every image is one pixel, its values are the channels."""

    def loss(case: Case) -> Tensor:
        student, teacher = (case[key].flatten(1)[..., None, None] for key in ("s", "t"))
        return RKD("pixels", **options)(student, teacher, None)

    return loss


def supervised(loss: torch.nn.Module) -> Callable[[Case], Tensor]:
    return lambda case: loss(case["logits"], case["target"])


def on_members(loss: torch.nn.Module) -> Callable[[Case], Tensor]:
    """For cases with one-hot targets."""
    return lambda case: loss(case["logits"], case["target"].argmax(1))


def share_of_valid(case: Case) -> float:
    return float((case["target"] != 255).double().mean())


def share_of_present(case: Case) -> float:
    return case["target"][case["target"] != 255].unique().numel() / case["logits"].shape[1]


def features(loss: torch.nn.Module) -> Callable[[Case], Tensor]:
    return lambda case: loss(case["s"], case["t"], None)


def features_after(
    resized: Callable[[Tensor, tuple[int, int]], Tensor], which: str, loss: torch.nn.Module
) -> Callable[[Case], Tensor]:
    def ours(case: Case) -> Tensor:
        maps = {key: case[key] for key in ("s", "t")}
        maps[which] = resized(maps[which], tuple(case["t" if which == "s" else "s"].shape[2:]))
        return loss(maps["s"], maps["t"], None)

    return ours


def bilinear(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def masked_and_generated(convention: str) -> Callable[[Case], Tensor]:
    def ours(case: Case) -> Tensor:
        adapter = MaskedGenerator(case["s"].shape[1], case["t"].shape[1])
        parameters = {
            key.removeprefix("param_").replace("generation", "generator").replace("_", "."): value
            for key, value in case.inputs.items()
            if key.startswith("param_")
        }
        assert parameters.keys() == dict(adapter.named_parameters()).keys()
        generated = torch.func.functional_call(adapter, parameters, (case["s"], case["extra_mask"].bool()))
        return MGD(convention)(generated, case["t"], None)

    return ours


def variational(case: Case) -> Tensor:
    maps = case["s"]
    for layer in (0, 2, 4):
        maps = F.conv2d(maps if layer == 0 else maps.relu(), case[f"param_regressor_{layer}_weight"])
    loss = VID(case["t"].shape[1]).double()
    return torch.func.functional_call(loss, {"raw_variance": case["param_log_scale"]}, (maps, case["t"], None))


def hierarchical(case: Case) -> Tensor:
    return hierarchical_distance(case["s"], case["t"], torch.ones_like(case["t"][:, 0], dtype=torch.bool))


ROWS = [
    Row("PixelKL", "kl_cirkd_*", pixel_kl("cirkd")),
    Row("PixelKL", "kl_mdistiller_*", pixel_kl("mdistiller")),
    Row("PixelKL", "kl_repdistiller_*", pixel_kl("repdistiller")),
    Row("PixelKL", "kl_mmrazor_*_batchmean", pixel_kl("mmrazor-batchmean")),
    Row("PixelKL", "kl_mmrazor_*_mean", pixel_kl("mmrazor-mean")),
    Row("PixelKL", "kl_mmrazor_*_sum", pixel_kl("mmrazor-sum")),
    Row("PixelKL", "kl_ifvd_*_up0", pixel_kl("ifvd")),
    Row("PixelKL", "kl_ifvd_*_up1", pixel_kl_after_upsampling),
    Row("PixelKL", "pixelwise_skd_*", pixel_kl("skd", 1.0)),
    Row("PixelKL", "kd_torchdistill_*_a0", pixel_kl("ifvd")),
    Row("PixelKL", "kd_torchdistill_*_a03_batchmean", with_labels),
    Row("CWD", "cwd_cirkd_b1_T*", cwd),
    Row("CWD", "cwd_cirkd_odd_T*", cwd),
    Row("CWD", "cwd_mmrazor_*", cwd),
    Row(
        "CWD",
        "cwd_cirkd_conv_T4",
        after_conv(CWD(4.0)),
        factor=10 / 6,
        reason="divides by the 6 channels of the student before its adapter, not by the 10 that are compared",
    ),
    Row(
        "CWD", "cwd_cirkd_extreme_T1", cwd, unlike=True, reason="takes the logarithm of a softmax that underflows: NaN"
    ),
    Row("PixelKL", "cwd_spatial_cirkd_*", pixel_kl("default")),
    Row("AT", "at_cirkd_*", attention("cirkd")),
    Row("AT", "at_mmrazor_*", attention("cirkd")),
    Row("AT", "at_torchdistill_code_*", attention("cirkd")),
    Row("AT", "at_torchdistill_paper_*", attention("paper")),
    Row("AT", "at_mdistiller_pool", attention_after_pooling),
    Row("AT", "at_repdistiller_pool", attention_after_pooling),
    Row("DKD", "dkd_*", decoupled),
    Row("DIST", "dist_seg_*", dist("authors", temperature=1.0)),
    Row("DIST", "dist_seg_*", dist(temperature=1.0)),  # no class is rare there
    Row("DIST", "dist_mmrazor_rows_*", dist("authors")),
    Row("DIST", "dist_torchdistill_rows_*", dist("torchdistill")),
    Row("DIST", "dist_mmrazor_4d_QUIRK_*", dist(), unlike=True, reason="correlates over the batch at each pixel"),
    Row("LogitStandardized", "lskd_kd_small_T2", standardized),
    Row("LogitStandardized", "lskd_kd_one_T2", standardized),
    Row("LogitStandardized", "lskd_kd_dense_rows_T2", standardized),
    Row(
        "LogitStandardized",
        "lskd_kd_dense4d_QUIRK_T2",
        standardized,
        unlike=True,
        reason="standardises over the width of the maps",
    ),
    Row("LogitStandardized", "lskd_dkd_*", standardized_decoupled),
    Row("LogitStandardized", "logitstd_torchdistill_*", standardized_with_labels),
    Row("MSE", "fitnet_cirkd_*", after_conv(MSE())),
    Row("MSE", "hint_repdistiller_*", lambda case: MSE()(case["s"], case["t"], None)),
    Row("CrossEntropy", "sup_ce_torch_b1", cross_entropy()),
    Row("CrossEntropy", "sup_ce_torch_odd", cross_entropy()),
    Row("CrossEntropy", "sup_ce_torch_ls01_*", cross_entropy(label_smoothing=0.1)),
    Row("CrossEntropy", "sup_ce_torch_weighted_*", weighted_cross_entropy),
    Row("CrossEntropy", "sup_ce_cirkd_*", upsampled_cross_entropy),
    Row(
        "CrossEntropy",
        "sup_ce_cirkd_*",
        default_upsampled_cross_entropy,
        unlike=True,
        reason="enlarges with align_corners=True; kd.types.resize has half-pixel centres",
    ),
    Row("SKD", "skd_pairwise_cirkd_*", related(SKD(convention="cirkd"))),
    Row("SKD", "skd_pairwise_*_scale0.5_f64", related(SKD(convention="skd"))),
    Row("SKD", "skd_pairwise_*_scale0.25_f64", related(SKD(0.25, convention="skd"))),
    Row("SKD", "skd_pairwise_*_scale0.5_f32", related_in_float32(SKD(convention="skd")), rtol=1e-5),
    Row("SKD", "skd_pairwise_*_scale0.25_f32", related_in_float32(SKD(0.25, convention="skd")), rtol=1e-5),
    Row("IFVD", "ifvd_repo_*", variation("ifvd")),
    Row("IFVD", "ifvd_cirkd_*", variation("cirkd")),
    Row("DSD", "dsd_cirkd_*", double_similarity("cirkd")),
    Row("CIRKDMiniBatch", "cirkd_minibatch_*", across_images),
    Row("CIRKDMemory", "cirkd_memory_pixel_region", remembered),
    Row("ICKD", "ickd_torchdistill_*", related(ICKD("torchdistill"))),
    Row("SP", "sp_repdistiller_*", related(SP("repdistiller"))),
    Row("SP", "sp_torchdistill_*", related(SP("torchdistill"))),
    Row("RKD", "rkd_repdistiller_*", relational()),
    Row("RKD", "rkd_torchdistill_*", relational(distance=1.0, angle=2.0)),
    Row("RKD", "rkd_mmrazor_dist_*", relational(angle=0.0, normalize=True)),
    Row("RKD", "rkd_mmrazor_angle_*", relational(distance=0.0, normalize=True)),
    Row("MGD", "mgd_*_same", masked_and_generated("mgd")),
    Row("MGD", "mgd_*_align", masked_and_generated("mgd")),
    Row("MGD", "mgd_mmrazor_*", features(MGD("mgd"))),
    Row("NFD", "pkd_mmrazor_b1", features(NFD("mmrazor"))),
    Row("NFD", "pkd_mmrazor_odd", features(NFD("mmrazor"))),
    Row("NFD", "pkd_mmrazor_tuple_*", features(NFD("mmrazor"))),
    Row("NFD", "pkd_mmrazor_resize_student", features_after(bilinear, "s", NFD("mmrazor"))),
    Row("NFD", "pkd_mmrazor_resize_teacher", features_after(bilinear, "t", NFD("mmrazor"))),
    Row(
        "NFD",
        "pkd_mmrazor_resize_student",
        features_after(resize, "s", NFD("mmrazor")),
        unlike=True,
        reason="shrinks without antialiasing, so that most of the student's pixels are not read",
    ),
    Row("VID", "vid_repdistiller_*", variational),
    Row("ReviewKD", "hcl_mdistiller_*", hierarchical),
    Row("Dice", "sup_dice_smp_odd", supervised(Dice(convention="smp"))),
    Row("Dice", "sup_dice_smp_b1", supervised(Dice(convention="smp"))),
    Row("Dice", "sup_dice_smp_ignore_*", supervised(Dice(convention="smp"))),
    Row("Dice", "sup_dice_smp_smooth1_log_*", supervised(Dice(smooth=1, log=True, convention="smp"))),
    Row("Dice", "sup_dice_monai_odd", supervised(Dice(smooth=1e-5, per_image=True, convention="monai"))),
    Row("Dice", "sup_dice_monai_b1", supervised(Dice(smooth=1e-5, per_image=True, convention="monai"))),
    Row("Dice", "sup_dice_monai_batch_nobg_*", supervised(Dice(smooth=1e-5, background=False, convention="monai"))),
    Row("Jaccard", "sup_jaccard_smp_*", supervised(Jaccard(convention="smp"))),
    Row("Jaccard", "sup_jaccard_monai_*", supervised(Jaccard(smooth=1e-5, per_image=True, convention="monai"))),
    Row("Tversky", "sup_tversky_smp_*", supervised(Tversky(0.3, 0.7, gamma=1.33, convention="smp"))),
    Row(
        "Tversky", "sup_tversky_monai_*", supervised(Tversky(0.3, 0.7, smooth=1e-5, per_image=True, convention="monai"))
    ),
    # The weights of Lovász are differences of sums, which processors with other instructions round differently.
    Row("Lovasz", "sup_lovasz_smp_odd", supervised(Lovasz()), rtol=1e-5),
    Row("Lovasz", "sup_lovasz_smp_b1", supervised(Lovasz()), rtol=1e-5),
    Row("Lovasz", "sup_lovasz_smp_ignore_*", supervised(Lovasz()), rtol=1e-5),
    Row("Lovasz", "sup_lovasz_smp_perimage_*", supervised(Lovasz(per_image=True)), rtol=1e-5),
    Row("Focal", "sup_focal_smp_odd", supervised(Focal(convention="smp"))),
    Row("Focal", "sup_focal_smp_b1", supervised(Focal(convention="smp"))),
    Row("Focal", "sup_focal_smp_ignore_*", supervised(Focal(convention="smp"))),
    Row("Focal", "sup_focal_smp_alpha_norm_*", supervised(Focal(alpha=0.25, convention="smp-normalized"))),
    Row("Focal", "sup_focal_monai_softmax_*", supervised(Focal(convention="monai"))),
    Row("Focal", "sup_sigfocal_torchvision_odd", on_members(Focal(alpha=0.25, convention="torchvision"))),
    Row("Focal", "sup_sigfocal_torchvision_b1", on_members(Focal(alpha=0.25, convention="torchvision"))),
    Row(
        "Focal",
        "sup_sigfocal_torchvision_sum_noalpha_*",
        on_members(Focal(convention="torchvision")),
        factor=lambda case: case["logits"].numel(),
        reason="sums over images, classes and pixels",
    ),
    Row("CrossEntropy", "sup_softce_smp_odd", cross_entropy(label_smoothing=0.1)),
    Row("CrossEntropy", "sup_softce_smp_b1", cross_entropy(label_smoothing=0.1)),
    Row(
        "CrossEntropy",
        "sup_softce_smp_ignore_*",
        cross_entropy(label_smoothing=0.1),
        factor=share_of_valid,
        reason="divides by all pixels, including ignored pixels",
    ),
    # The default value against a paper's: the factor that the documentation states.
    Row(
        "PixelKL",
        "kl_ifvd_*_up0",
        pixel_kl("default"),
        factor=lambda c: 1 / (c["s"].shape[1] * c.temperature**2),
        reason="omits T² and averages over classes",
    ),
    Row(
        "PixelKL",
        "kl_mmrazor_*_mean",
        pixel_kl("default"),
        factor=lambda c: 1 / c["s"].shape[1],
        reason="averages over classes too",
    ),
    Row(
        "PixelKL",
        "kl_mmrazor_*_batchmean",
        pixel_kl("default"),
        factor=lambda c: c["s"][0, 0].numel(),
        reason="sums over the pixels",
    ),
    Row(
        "IFVD",
        "ifvd_*",
        variation("default"),
        factor=share_of_valid_pixels,
        reason="includes ignored pixels in the mean",
    ),
    Row("ICKD", "ickd_*", related(ICKD()), factor=lambda c: 1 / len(c["s"]), reason="divides by the batch size twice"),
    Row(
        "SP",
        "sp_torchdistill_odd",
        related(SP()),
        unlike=True,
        reason="divides rows by their absolute sum, the paper by their length",
    ),
    Row(
        "SKD",
        "skd_pairwise_*_scale*_f64",
        related(SKD()),
        unlike=True,
        reason="compares other windows under the same name",
    ),
    Row(
        "AT",
        "at_cirkd_*",
        attention("default"),
        factor=lambda c: 1 / c["s"][0, 0].numel(),
        reason="averages over the pixels",
    ),
    Row(
        "MGD",
        "mgd_*_same",
        masked_and_generated("default"),
        factor=lambda c: 2e-5 * c["t"][0].numel(),
        reason="multiplies the sum by α",
    ),
    Row(
        "MGD",
        "mgd_*_align",
        masked_and_generated("default"),
        factor=lambda c: 2e-5 * c["t"][0].numel(),
        reason="multiplies the sum by α",
    ),
    Row(
        "NFD",
        "pkd_mmrazor_odd",
        features(NFD()),
        factor=lambda c: 1 - 1 / c["s"][:, 0].numel(),
        reason="uses the unbiased deviation",
        rtol=5e-6,  # 10⁻⁶ is added to each deviation, ours or theirs
    ),
    Row(
        "Dice",
        "sup_dice_smp_ignore_*",
        supervised(Dice()),
        factor=share_of_present,
        reason="includes absent classes as 0",
    ),
    Row(
        "Jaccard",
        "sup_jaccard_smp_*",
        supervised(Jaccard()),
        factor=share_of_present,
        reason="includes absent classes as 0",
    ),
    Row(
        "Dice",
        "sup_dice_monai_odd",
        supervised(Dice()),
        unlike=True,
        reason="gives absent classes a value near 1, so that it is never 0",
    ),
    Row(
        "Focal",
        "sup_focal_monai_softmax_*",
        supervised(Focal()),
        factor=lambda c: 1 / c["logits"].shape[1],
        reason="averages over classes too",
    ),
    Row(
        "Focal",
        "sup_focal_smp_odd",
        supervised(Focal()),
        unlike=True,
        reason="uses one sigmoid per class, not a softmax",
    ),
]

# Cases of methods that `kd.losses` does not implement.
NOT_IMPLEMENTED: dict[str, str] = {
    "met_*": "metrics; the tests of the metrics read them",
    "ab_repdistiller_*": "AB, activation boundaries, made for one layer of a classifier",
    "affinity_torchdistill_*": "KTAAD's affinity",
    "kta_torchdistill_*": "KTAAD's knowledge translation",
    "cirkd_channel": "CIRKDV2's relations between channels",
    "cc_repdistiller_*": "CC, which compares whole images and needs larger batches than segmentation has",
    "fsp_repdistiller_*": "FSP",
    "sup_gdice_monai_*": "generalised Dice",
    "ft_repdistiller_*": "factor transfer",
    "nst_repdistiller_*": "NST",
    "pkt_repdistiller_*": "PKT",
    "mlkd_*": "MLKD",
    "wsld_mmrazor_*": "WSLD",
    "distplus_torchdistill*": "DIST+; its channel term has the wrong sign in that code",
}


def row_id(row: Row) -> str:
    relation = "unlike" if row.unlike else "equal" if row.factor == 1.0 else "factor"
    return f"{row.cases}-{relation}"


@contextmanager
def record_modules(called: list[str]) -> Iterator[None]:
    """Append the class of every module that is called to `called`."""
    hook = register_module_forward_pre_hook(lambda module, _: called.append(type(module).__name__))
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.filterwarnings("ignore:SP compares the images:UserWarning")
@pytest.mark.parametrize(
    ("row", "name"),
    [pytest.param(row, name, id=f"{name}-{row_id(row)}") for row in ROWS for name in CASES if fnmatch(name, row.cases)],
)
def test_case(row: Row, name: str) -> None:
    case = Case(name)
    called = []
    with record_modules(called):
        result = row.ours(case)
    assert row.loss in called or row.loss == "ReviewKD", f"{name} does not call {row.loss}"  # ReviewKD: a part of it
    outputs = result if isinstance(result, tuple) else (result,)
    factor = row.factor(case) if callable(row.factor) else row.factor
    assert row.reason or (factor == 1 and not row.unlike), "a difference needs its reason"
    for index, ours in enumerate(outputs):
        expected, gradients = case.expected(index if isinstance(result, tuple) else None)
        assert gradients, f"{name} holds no gradient"
        if row.unlike:
            assert ours.isfinite()
            assert not torch.isclose(ours, expected, rtol=1e-4)
            continue
        torch.testing.assert_close(factor * ours, expected.to(ours.dtype), rtol=row.rtol, atol=0)
        sources = [case[key] for key in gradients]
        computed = torch.autograd.grad(factor * ours, sources, retain_graph=True)
        for key, gradient in zip(gradients, computed, strict=True):
            # An element that is a cancellation has no relative precision: the floor is far below the largest element.
            floor = 1e-3 * row.rtol * float(gradients[key].abs().max())
            torch.testing.assert_close(gradient, gradients[key], rtol=10 * row.rtol, atol=floor)


def test_every_case_is_accounted_for() -> None:
    assert CASES
    for name in CASES:
        homes = {
            home
            for home, globs in (("rows", [r.cases for r in ROWS]), ("not implemented", NOT_IMPLEMENTED))
            if any(fnmatch(name, glob) for glob in globs)
        }
        assert len(homes) == 1, f"{name}: in {sorted(homes) or 'no list'}"


@pytest.mark.parametrize("glob", [*[row.cases for row in ROWS], *NOT_IMPLEMENTED])
def test_every_row_has_cases(glob: str) -> None:
    assert any(fnmatch(name, glob) for name in CASES)


def line(loss: str, glob: str, relation: str) -> str:
    """A row of the page."""
    return f"| {loss} | `{glob}` | {sum(fnmatch(name, glob) for name in CASES)} | {relation} |"


def relation(row: Row) -> str:
    """What the page states of a row."""
    if row.unlike:
        return f"differs: {row.reason}"
    return f"equal up to a factor: {row.reason}" if row.reason else "equal"


def test_the_page_lists_every_row() -> None:
    page = FOLDER.parents[1] / "docs" / "methods" / "cases.md"
    lines = sorted({line(row.loss, row.cases, relation(row)) for row in ROWS})
    lines += sorted({line("–", glob, f"not implemented: {what}") for glob, what in NOT_IMPLEMENTED.items()})
    text = page.read_text(encoding="utf-8")
    assert [row for row in text.splitlines() if "| `" in row] == lines, "\n".join(["the page must have", *lines])
