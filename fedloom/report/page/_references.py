"""Papers, by a short name that `_citations` uses."""

from __future__ import annotations

from typing import NamedTuple


class Reference(NamedTuple):
    """A paper."""

    authors: str
    title: str
    where: str
    link: str = ""


def _arxiv(authors: str, title: str, where: str, number: str) -> Reference:
    return Reference(authors, title, where, f"https://arxiv.org/abs/{number}")


REFERENCES: dict[str, Reference] = {
    "acar": _arxiv("Acar et al.", "Federated Learning Based on Dynamic Regularization", "ICLR 2021", "2111.04263"),
    "andrew": _arxiv(
        "Andrew, Thakkar, McMahan, Ramaswamy", "Differentially Private Learning with Adaptive Clipping", "NeurIPS 2021", "1905.03871"
    ),
    "blanchard": _arxiv(
        "Blanchard, El Mhamdi, Guerraoui, Stainer",
        "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
        "NeurIPS 2017",
        "1703.02757",
    ),
    "bonawitz2017": Reference(
        "Bonawitz et al.",
        "Practical Secure Aggregation for Privacy-Preserving Machine Learning",
        "CCS 2017",
        "https://doi.org/10.1145/3133956.3133982",
    ),
    "bonawitz2019": _arxiv(
        "Bonawitz, Salehi, Konečný, McMahan, Gruteser",
        "Federated Learning with Autotuned Communication-Efficient Secure Aggregation",
        "2019",
        "1912.00131",
    ),
    "caldas": _arxiv("Caldas et al.", "LEAF: A Benchmark for Federated Settings", "2018", "1812.01097"),
    "cho": _arxiv("Cho et al.", "On the Convergence of Federated Averaging with Cyclic Client Participation", "ICML 2023", "2302.03109"),
    "choquette": _arxiv(
        "Choquette-Choo et al.",
        "(Amplified) Banded Matrix Factorization: A Unified Approach to Private Training",
        "NeurIPS 2023",
        "2306.08153",
    ),
    "deng": _arxiv("Deng, Kamani, Mahdavi", "Adaptive Personalized Federated Learning", "2020", "2003.13461"),
    "duchi": Reference(
        "Duchi, Hazan, Singer",
        "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
        "JMLR 12, 2011",
        "https://jmlr.org/papers/v12/duchi11a.html",
    ),
    "ghosh": _arxiv(
        "Ghosh, Chung, Yin, Ramchandran", "An Efficient Framework for Clustered Federated Learning", "NeurIPS 2020", "2006.04088"
    ),
    "hsu": _arxiv(
        "Hsu, Qi, Brown",
        "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
        "2019",
        "1909.06335",
    ),
    "kairouz": _arxiv("Kairouz et al.", "Practical and Private (Deep) Learning without Sampling or Shuffling", "ICML 2021", "2103.00039"),
    "karimireddy2019": _arxiv(
        "Karimireddy, Rebjock, Stich, Jaggi",
        "Error Feedback Fixes SignSGD and other Gradient Compression Schemes",
        "ICML 2019",
        "1901.09847",
    ),
    "karimireddy2020": _arxiv(
        "Karimireddy et al.", "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", "ICML 2020", "1910.06378"
    ),
    "kingma": _arxiv("Kingma, Ba", "Adam: A Method for Stochastic Optimization", "ICLR 2015", "1412.6980"),
    "koskela": _arxiv("Koskela, Jälkö, Honkela", "Computing Tight Differential Privacy Guarantees Using FFT", "AISTATS 2020", "1906.03049"),
    "li2020": _arxiv("Li et al.", "Federated Optimization in Heterogeneous Networks", "MLSys 2020", "1812.06127"),
    "li2020fair": _arxiv("Li, Sanjabi, Beirami, Smith", "Fair Resource Allocation in Federated Learning", "ICLR 2020", "1905.10497"),
    "li2021": _arxiv(
        "Li, Hu, Beirami, Smith", "Ditto: Fair and Robust Federated Learning Through Personalization", "ICML 2021", "2012.04221"
    ),
    "loshchilov": _arxiv("Loshchilov, Hutter", "Decoupled Weight Decay Regularization", "ICLR 2019", "1711.05101"),
    "mansour": _arxiv(
        "Mansour, Mohri, Ro, Suresh", "Three Approaches for Personalization with Applications to Federated Learning", "2020", "2002.10619"
    ),
    "mcmahan2017": _arxiv(
        "McMahan, Moore, Ramage, Hampson, Agüera y Arcas",
        "Communication-Efficient Learning of Deep Networks from Decentralized Data",
        "AISTATS 2017",
        "1602.05629",
    ),
    "mcmahan2018": _arxiv(
        "McMahan, Ramage, Talwar, Zhang", "Learning Differentially Private Recurrent Language Models", "ICLR 2018", "1710.06963"
    ),
    "mime": _arxiv("Karimireddy et al.", "Mime: Mimicking Centralized Stochastic Algorithms in Federated Learning", "2020", "2008.03606"),
    "mironov": _arxiv("Mironov", "Rényi Differential Privacy", "CSF 2017", "1702.07476"),
    "mohri": _arxiv("Mohri, Sivek, Suresh", "Agnostic Federated Learning", "ICML 2019", "1902.00146"),
    "pillutla": _arxiv(
        "Pillutla, Kakade, Harchaoui",
        "Robust Aggregation for Federated Learning",
        "IEEE Transactions on Signal Processing, 2022",
        "1912.13445",
    ),
    "ponomareva": _arxiv(
        "Ponomareva et al.", "How to DP-fy ML: A Practical Guide to Machine Learning with Differential Privacy", "JAIR, 2023", "2303.00654"
    ),
    "reddi": _arxiv("Reddi et al.", "Adaptive Federated Optimization", "ICLR 2021", "2003.00295"),
    "ro": _arxiv(
        "Ro, Chen, Mathews, Mohri, Suresh", "Communication-Efficient Agnostic Federated Averaging", "Interspeech 2021", "2104.02748"
    ),
    "sculley": Reference("Sculley", "Web-Scale K-Means Clustering", "WWW 2010", "https://doi.org/10.1145/1772690.1772862"),
    "shazeer": _arxiv("Shazeer, Stern", "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", "ICML 2018", "1804.04235"),
    "singhal": _arxiv("Singhal et al.", "Federated Reconstruction: Partially Local Federated Learning", "NeurIPS 2021", "2102.03448"),
    "stich": _arxiv("Stich, Cordonnier, Jaggi", "Sparsified SGD with Memory", "NeurIPS 2018", "1809.07599"),
    "suresh": _arxiv("Suresh, Yu, Kumar, McMahan", "Distributed Mean Estimation with Limited Communication", "ICML 2017", "1611.00429"),
    "vogels": _arxiv(
        "Vogels, Karimireddy, Jaggi",
        "PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization",
        "NeurIPS 2019",
        "1905.13727",
    ),
    "wang2019": _arxiv("Wang et al.", "Federated Evaluation of On-device Personalization", "2019", "1910.10252"),
    "wang2020": _arxiv(
        "Wang, Liu, Liang, Joshi, Poor",
        "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
        "NeurIPS 2020",
        "2007.07481",
    ),
    "yin": _arxiv(
        "Yin, Chen, Ramchandran, Bartlett",
        "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
        "ICML 2018",
        "1803.01498",
    ),
    "zaheer": Reference("Zaheer, Reddi, Sachan, Kale, Kumar", "Adaptive Methods for Nonconvex Optimization", "NeurIPS 2018"),
}
