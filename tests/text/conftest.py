import pytest

from openpali.text.tokenizer import Tokenizer
from openpali_lab.worlds.vocabulary_texts import train_nano_vocabulary

CAPTIONS = [
    ("en", "A small red horse stands on the grass."),
    ("en", "The flag of the USA, and the UNESCO sign."),
    ("en", "Two large horses and a dog run over the bridge."),
    ("de", "Ein kleines rotes Pferd steht auf der Wiese."),
    ("de", "Die Straße führt über die Brücke."),
    ("fr", "Un petit cheval rouge à côté de la forêt."),
    ("es", "El niño está en la montaña."),
    ("it", "Un piccolo cavallo rosso sul prato."),
    ("ru", "Маленькая красная лошадь стоит на траве. СССР."),
    ("el", "Ένα μικρό κόκκινο άλογο στο γρασίδι."),
    ("ja", "小さな赤い馬が草の上に立っています。"),
    ("ko", "작은 빨간 말이 풀밭에 서 있습니다."),
    ("zh_CN", "一匹红色的小马站在草地上。"),
    ("pt_BR", "Um pequeno cavalo vermelho na grama."),
]


def train_small() -> Tokenizer:
    return train_nano_vocabulary(CAPTIONS * 5, vocab_size=1050)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_small()
